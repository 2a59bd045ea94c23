"""What a region consists of: basic blocks of guest code that its first instruction leads to, over calls and pages.

Places are byte offsets from the start of the page that holds the first instruction (the *head's page*); other pages lie
before or behind it. Direct jumps and calls are followed, others to where they have been seen to lead; a return goes on
behind the calls that the region contains.
Code that the hart has not reached yet is left out: an exit there costs little, translating what never runs costs a lot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from mpemu.codegen.decoder import MAX_SPIN_LOOP
from mpemu.codegen.facts import facts
from mpemu.codegen.records import Variant
from mpemu.isa.profiles import IsaSpec
from mpemu.isa.registry import Insn, decode
from mpemu.layout import ITLB_ENTRIES, PAGE, PAGE_SHIFT
from mpemu.unit import BEST, Kind

MAX_INSNS = 500
"""Guest instructions in a region."""
MAX_PAGES = 8
MAX_ENTRIES = 64
FARTHEST = 1 << 30
"""Bytes: what is farther away counts as unknown. Places then fit into 32 bits."""
LINK_REGISTERS = (1, 5)
"""x1 and x5: jumps through them are returns (unprivileged ISA, 2.5.1)."""


@dataclass(frozen=True)
class Source:
    """Where guest code comes from: ``page(distance)`` is the content (4096 bytes) of the page that many pages from the
    head's, or None; ``reached(place)`` tells whether the hart has been there (``page(place // 4096)`` is known).
    ``targets(place)``: where the computed jump there may lead, most frequent first; only guessed. ``kind`` is what is
    to be made, of ``max_pages`` at most."""

    page: Callable[[int], bytes | None]
    reached: Callable[[int], bool] = lambda place: True
    targets: Callable[[int], Sequence[int]] = lambda place: ()
    kind: Kind = BEST
    max_pages: int = MAX_PAGES


@dataclass(frozen=True)
class Step:
    """An instruction of the region at ``at``, ``length`` bytes long. ``target``: where a jump that can be told goes."""

    at: int
    insn: Insn
    operands: dict[str, int]
    length: int
    target: int | None = None

    @property
    def behind(self) -> int:
        return self.at + self.length

    @property
    def straddles(self) -> bool:
        """It lies on two pages."""
        return self.at >> PAGE_SHIFT != self.behind - 1 >> PAGE_SHIFT

    @property
    def closes_loop(self) -> bool:
        return self.target is not None and self.target <= self.at

    @property
    def is_jump(self) -> bool:
        """jal or jalr."""
        return self.insn.name in ("jal", "jalr")

    @property
    def is_branch(self) -> bool:
        return self.target is not None and not self.is_jump

    @property
    def is_call(self) -> bool:
        return self.is_jump and self.operands["rd"] in LINK_REGISTERS

    @property
    def is_computed(self) -> bool:
        """A jump that may lead anywhere."""
        return self.insn.name == "jalr" and self.target is None

    @property
    def is_return(self) -> bool:
        return self.is_computed and self.operands["rs1"] in LINK_REGISTERS and not self.is_call


class Shape:
    """The region that begins at ``head`` (an offset in its page)."""

    def __init__(self, isa: IsaSpec, source: Source, head: int, fast: Callable[[Step], bool]) -> None:
        """``fast(step)``: whether the instruction can be executed inside a region; others end it."""
        self.head, self.kind = head, source.kind
        self._isa, self._source, self.fast = isa, source, fast
        self.steps: dict[int, Step] = {}
        self.pages: dict[int, bytes] = {}
        """The pages that the region depends on, by their distance from the head's."""
        self.left_out = set[int]()
        """Places that the region leads to, which were not reached yet."""
        self.guesses = set[tuple[int, int]]()
        """(Place of a computed jump, place where that may lead), as was said; what came of it is in ``targets``."""
        self._call_sites: dict[int, set[int]] = {}
        self._guesses: dict[int, set[int]] = {}
        self._resumed = set[int]()
        leaders = {head}
        self._grow(leaders)
        self.left_out -= self.steps.keys()
        self._starts = frozenset(leaders & self.steps.keys())
        for at in self._starts:
            if self.steps[at].insn.name == "jalr":  # entered behind its auipc, it leads anywhere
                self.steps[at] = replace(self.steps[at], target=None)
        self.spins = {s.at for s in self.steps.values() if self._only_waits(s)}
        self.targets = {at: found for at, places in self._guesses.items() if (found := places & self._starts)}
        """Of computed jumps, where they may go on in the region: where they have been seen to go; and from the returns
        of functions that it calls, behind those calls."""
        self._find_returns()
        self.entries = self._entries()
        """Where the region can be entered, offsets in the head's page, ``head`` first."""
        self.successors = self._graph()
        self.leaders = sorted(self.successors)
        used = {place >> PAGE_SHIFT for b in self.leaders for s in self.block(b) for place in (s.at, s.behind - 1)}
        self.pages = {distance: page for distance, page in self.pages.items() if distance in used | {0}}
        self.predecessors: dict[int, set[int]] = {leader: set() for leader in self.leaders}
        for leader, behind in self.successors.items():
            for place in behind:
                self.predecessors[place].add(leader)

    # -- finding it
    def _grow(self, leaders: set[int]) -> None:
        work = deque([self.head])
        while work:
            at = work.popleft()
            while at not in self.steps and len(self.steps) < MAX_INSNS:
                step = self._decode(at)
                if step is None:
                    break
                if step.straddles:
                    if at == self.head:  # it has no record of its own
                        return
                    leaders.add(at)
                self.steps[at] = step
                follow = self._follow(step)
                for place in follow:
                    if place == self.head or self._is_reached(place):
                        leaders.add(place)
                        work.append(place)
                if not self.fast(step):
                    self._resumed.add(step.behind)
                    if self._is_reached(step.behind):
                        leaders.add(step.behind)
                        work.append(step.behind)
                    break
                if step.insn.ends_block:
                    break
                if step.behind >> PAGE_SHIFT != at >> PAGE_SHIFT:  # the interpreter looks around at the end of a page
                    leaders.add(step.behind)
                at = step.behind
            else:  # met what another way has found, perhaps behind a jump into an instruction: no step is in two blocks
                leaders.add(at)

    def _follow(self, step: Step) -> tuple[int, ...]:
        """Where the end of a block leads to, nearest first."""
        if step.is_computed:
            return self._guess(step)
        if step.target is None:
            return ()
        if step.is_branch:
            return (step.behind, step.target)
        if step.is_call:
            self._call_sites.setdefault(step.target, set()).add(step.behind)
            return (step.target, step.behind)
        return (step.target,)

    def _guess(self, jump: Step) -> tuple[int, ...]:
        """Where a computed jump leads to. A function that is left for its callers takes none of them in: they have
        regions of their own, which have it, and everything else that they call would come along."""
        if jump.is_return:
            return ()
        told = self._source.targets(jump.at)
        self.guesses.update((jump.at, place) for place in told)
        guesses = [place for place in told if not place % 2 and self._source.reached(place)]
        if not guesses:
            return ()
        self._guesses[jump.at] = set(guesses)
        if not jump.is_call:
            return tuple(guesses)
        for place in guesses:
            self._call_sites.setdefault(place, set()).add(jump.behind)
        return (*guesses, jump.behind)

    def _is_reached(self, place: int) -> bool:
        if not self._source.reached(place):
            self.left_out.add(place)
            return False
        return self._page(place >> PAGE_SHIFT) is not None

    def _page(self, distance: int) -> bytes | None:
        if distance not in self.pages:
            # of two pages with one place in the ITLB a hart would never have both
            if len(self.pages) == self._source.max_pages or any(
                (distance - other) % ITLB_ENTRIES == 0 for other in self.pages
            ):
                return None
            page = self._source.page(distance)
            if page is None:
                return None
            self.pages[distance] = page
        return self.pages[distance]

    def _halfword(self, place: int) -> bytes | None:
        page = self._page(place >> PAGE_SHIFT)
        return page and page[place & (PAGE - 1) :][:2]

    def _decode(self, at: int) -> Step | None:
        low = self._halfword(at)
        if low is None:
            return None
        if low[0] & 3 == 3:
            high = self._halfword(at + 2)
            if high is None:
                return None
            low += high
        decoded = decode(int.from_bytes(low, "little"), self._isa.extensions)
        if decoded is None:
            return None
        insn, operands, length = decoded
        target = None
        if insn.name == "jalr":
            target = self._far_target(at, operands)
        elif insn.ends_block and "imm" in operands:
            target = at + operands["imm"]
        return Step(at, insn, operands, length, target)

    def _far_target(self, at: int, operands: dict[str, int]) -> int | None:
        """Of a jalr directly behind the auipc of its register."""
        before = self.steps.get(at - 4)
        if before and before.insn.name == "auipc" and before.operands["rd"] == operands["rs1"] != 0:
            target = (at - 4 + before.operands["imm"] + operands["imm"]) & ~1
            return target if abs(target) < FARTHEST else None
        return None

    def _only_waits(self, jump: Step) -> bool:
        """The loop that this back edge closes can only wait (as decoder.is_spin_loop finds)."""
        if jump.target is None or jump.insn.name == "jalr" or not 0 <= jump.at - jump.target <= MAX_SPIN_LOOP:
            return False
        if jump.at >> PAGE_SHIFT != jump.target >> PAGE_SHIFT:
            return False
        read: set[int] = set()
        written: set[int] = set()
        at = jump.target
        while at <= jump.at:
            step = self.steps.get(at) or self._decode(at)
            if step is None:
                return False
            known = facts(self._isa, Variant(step.insn, step.length))
            if not known.quiet or (known.relative_jump and step.operands.get("rd")):
                return False
            read |= {step.operands[f] for f in known.reads} - written - {0}
            written |= {step.operands[f] for f in known.writes}
            at += step.length
        return not read & written

    # -- its graph
    def pages_of(self, leader: int) -> set[int]:
        """The pages that the block at ``leader`` lies on: one, if it is not an instruction across the end of a page."""
        step = self.steps[leader]
        return {step.at >> PAGE_SHIFT, step.behind - 1 >> PAGE_SHIFT}

    def block(self, leader: int) -> Iterator[Step]:
        """The steps from ``leader`` to the next leader or the end."""
        at = leader
        while at in self.steps and (at == leader or at not in self._starts):
            step = self.steps[at]
            yield step
            if step.insn.ends_block or not self.fast(step):
                return
            at = step.behind

    def _entries(self) -> tuple[int, ...]:
        """Besides the head: where loops go back to (an interrupt or the end of a slice makes a hart leave there),
        behind calls, where computed jumps lead (also those of other regions), and behind instructions that are left to
        the interpreter."""
        again = {s.target for s in self.steps.values() if s.target is not None and s.closes_loop}
        guessed = {place for places in self._guesses.values() for place in places}
        behind = {s.behind for s in self.steps.values() if s.is_call}
        wanted = {at for at in (again | behind | guessed | self._resumed) & self._starts if self.pages_of(at) == {0}}
        waiting = {s.target for s in self.steps.values() if s.at in self.spins}
        if self.head not in self._starts:
            return ()
        others = sorted(at for at in wanted - {self.head} if at not in waiting)
        return (self.head, *others[: MAX_ENTRIES - 1])

    def _graph(self) -> dict[int, set[int]]:
        """The blocks that can be reached inside the region, and what follows each."""
        found: dict[int, set[int]] = {}
        work = list(self.entries)
        while work:
            leader = work.pop()
            if leader not in found:
                found[leader] = self._successors(leader)
                work += found[leader]
        return found

    def _find_returns(self) -> None:
        for entry, sites in self._call_sites.items():
            if sites := sites & self._starts:
                for at in self._returns_of(entry):
                    self.targets.setdefault(at, set()).update(sites)

    def _returns_of(self, entry: int) -> Iterator[int]:
        """The returns of the function at ``entry``: what it reaches when calls are passed over."""
        seen = set[int]()
        work = [entry]
        while work:
            leader = work.pop()
            if leader in seen or leader not in self._starts:
                continue
            seen.add(leader)
            last = self._last(leader)
            if last.is_return:
                yield last.at
            elif last.is_call:
                work.append(last.behind)
            else:
                work += self._successors(leader)

    def _last(self, leader: int) -> Step:
        *_, last = self.block(leader)
        return last

    def _successors(self, leader: int) -> set[int]:
        """The leaders that the block at ``leader`` may continue at."""
        step = self._last(leader)
        found: set[int | None] = set()
        if not step.insn.ends_block:
            found = {step.behind} if self.fast(step) else set()
        elif step.is_computed:
            found = set(self.targets.get(step.at, ()))
        elif step.at in self.spins:
            found = {step.behind} if step.is_branch else set()
        elif step.is_branch:
            found = {step.behind, step.target}
        else:
            found = {step.target}
        return {place for place in found if place is not None and place in self._starts}
