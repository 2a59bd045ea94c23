"""Every struct in shared memory, described once.

The code generators take offsets from here; Python gets ctypes views made from the same tables. The machine's state
segment is one :data:`MACHINE` struct followed by one :data:`HART` struct per hart; RAM is a segment of its own. vCPU
processes are forked after the segments are mapped, so an address is valid in every process of the machine.

Each item names its writer: ``hart`` (the vCPU process that runs it), ``coordinator``, ``any`` (an atomic protocol,
described beside it) or ``build`` (written before the harts start).
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from mpemu.isa.state import STATE

MAX_HARTS = 64
PAGE_SHIFT = 12
PAGE = 1 << PAGE_SHIFT
PLIC_SOURCES = 96
UART_FIFO, UART_RING = 16, 4096
"""Bytes; powers of two."""
VERSION_WORDS = 1 << 16

_CTYPES: dict[str, Any] = {"u8": ctypes.c_uint8, "u32": ctypes.c_uint32, "u64": ctypes.c_uint64, "i64": ctypes.c_int64}
_SIZES = {"u8": 1, "u32": 4, "u64": 8, "i64": 8}


@dataclass(frozen=True)
class Item:
    """A member: ``count`` elements of ``kind`` (u8, u32, u64), aligned to ``align`` bytes or its own size."""

    name: str
    kind: str
    writer: str
    doc: str
    count: int = 1
    align: int = 0


class Struct:
    """A laid-out struct: ``offset[name]`` in bytes, ``size``, and :meth:`view` for Python."""

    def __init__(self, name: str, items: tuple[Item, ...], align: int) -> None:
        self.name, self.items = name, items
        self.offset: dict[str, int] = {}
        self.item: dict[str, Item] = {}
        fields: list[tuple[str, Any]] = []
        position = 0
        for item in items:
            boundary = item.align or _SIZES[item.kind]
            start = -(-position // boundary) * boundary
            if start > position:
                fields.append((f"_pad{position}", ctypes.c_uint8 * (start - position)))
            self.offset[item.name], self.item[item.name] = start, item
            kind = _CTYPES[item.kind]
            fields.append((item.name, kind * item.count if item.count > 1 else kind))
            position = start + _SIZES[item.kind] * item.count
        self.size = -(-position // align) * align
        if self.size > position:
            fields.append((f"_pad{position}", ctypes.c_uint8 * (self.size - position)))
        self.ctype: Any = type(name, (ctypes.Structure,), {"_fields_": fields, "_pack_": 1})
        assert ctypes.sizeof(self.ctype) == self.size

    def view(self, buffer: Any, offset: int = 0) -> Any:
        """A ctypes view over a writable buffer (an mmap, say); attributes are the items."""
        return self.ctype.from_buffer(buffer, offset)


# -- the interpreter's software TLB. A *regime* is (privilege, SUM, MXR, MPRV) as far as it decides who may access what;
# each has a TLB of its own, so that switching costs nothing.
REGIMES = 8
DTLB_ENTRIES = 256
ITLB_ENTRIES = 256
DTLB_ENTRY = Struct(
    "DtlbEntry",
    (
        Item("read_tag", "u64", "hart", "virtual page that may be read here, or all ones"),
        Item("write_tag", "u64", "hart", "virtual page that may be written here, or all ones"),
        Item("addend", "u64", "hart", "host address minus guest virtual address"),
        Item("size_mask", "u64", "hart", "which bits of the address name the (super)page: sfence.vma of one address"),
    ),
    32,
)
TLB2_ENTRIES = 1 << 14
"""Of the second level (codegen/tlb2.py): what the guest can touch at random, 64 MiB, without a walk."""
TLB2_ENTRY = Struct(
    "Tlb2Entry",
    (
        Item("read_tag", "u64", "hart", "as in DtlbEntry"),
        Item("write_tag", "u64", "hart", "as in DtlbEntry"),
        Item("addend", "u64", "hart", "as in DtlbEntry"),
        Item("stamp", "u64", "hart", "REGIME.stamp at which it is valid"),
    ),
    32,
)
ITLB_ENTRY = Struct(
    "ItlbEntry",
    (
        Item("tag", "u64", "hart", "virtual page, or all ones"),
        Item("delta", "u64", "hart", "record address minus 8 times the virtual address"),
        Item("size_mask", "u64", "hart", "as in DtlbEntry"),
        Item("unused", "u64", "hart", "padding to 32 bytes"),
    ),
    32,
)
WINDOW_LIMITS = 13
"""Of a window, for what takes 1, 2, 4, ... 4096 bytes (codegen/window.py)."""
SITES = 512
"""Of a regime (codegen/sites.py)."""
REGIME = Struct(
    "Regime",
    (
        Item("dtlb", "u8", "hart", "DTLB_ENTRIES DtlbEntry", DTLB_ENTRIES * DTLB_ENTRY.size, align=64),
        Item("itlb", "u8", "hart", "ITLB_ENTRIES ItlbEntry", ITLB_ENTRIES * ITLB_ENTRY.size, align=64),
        Item("used", "u64", "hart", "bit 0: something was filled in since the last flush, bit 1: of a superpage"),
        Item(
            "stamp", "u64", "hart", "of what the second level holds for it; no other regime and no earlier flush had it"
        ),
        # the window (codegen/window.py): guest addresses of which host addresses differ by a constant
        Item("window_low", "u64", "hart", "guest address of its start"),
        Item("window_host", "u64", "hart", "host address of its start"),
        Item("window_reads", "u64", "hart", "bytes that may be read there; 0: none"),
        Item("window_writes", "u64", "hart", "bytes that may be written there"),
        Item("window_bare", "u64", "hart", "1: there is no paging, the window is what RAM there is"),
        Item(
            "window_limits",
            "u64",
            "hart",
            "of such a one: at how many addresses 1, 2, 4, ... bytes may begin that are read; then: written, too",
            2 * WINDOW_LIMITS,
        ),
        Item("window_ends", "u64", "hart", "likewise: the last of these addresses", 2 * WINDOW_LIMITS),
        # sites (codegen/sites.py)
        Item("site_low", "u64", "hart", "guest address of its start", SITES, align=64),
        Item("site_bytes", "u64", "hart", "at how many addresses from there an access may begin", SITES, align=64),
        Item("site_addend", "u64", "hart", "host address minus guest address", SITES, align=64),
    ),
    64,
)

# The decode cache: a 16-byte record per 2-byte slot of a code page, and four more (codegen/records.py).
RECORD_SIZE = 16
RECORD_PAGE_SIZE = (PAGE // 2 + 4) * RECORD_SIZE
CODE_PAGE = Struct(
    "CodePage",
    (
        Item("source", "u64", "hart", "host address of the page that this was decoded from"),
        Item("generation", "u64", "hart", "code_generation at which the copy was last known to be current"),
        Item("hash", "u64", "hart", "of the copy (codegen/hot.py), where a translator is at work"),
        Item("reached", "u64", "hart", "bit n: what is at offset 2n has been decoded", PAGE // 2 // 64, align=64),
        Item("copy", "u8", "hart", "the bytes that the records stand for", PAGE, align=64),
    ),
    64,
)

RECORD_PAGES = 1280
"""Code pages that a hart's decode cache holds."""
JUMP = Struct(
    "Jump",
    (
        Item("source", "u64", "hart", "virtual address of a jalr in a region"),
        Item("target", "u64", "hart", "where it has gone, which the region does not have as its target"),
        Item("count", "u64", "hart", "how often, since another jump was here"),
    ),
    8,
)
JUMPS = 4096
"""JUMPs of a hart, hashed (codegen/region_jumps.py)."""
JUMPS_START = RECORD_PAGES * CODE_PAGE.size + PAGE
"""Behind a hart's CODE_PAGE structs; a page more, as the decoder may look two bytes behind the last copy."""
CODE_PAGES_SIZE = JUMPS_START + JUMPS * JUMP.size
"""Bytes of all that a translator reads of a hart: CODE_PAGE structs, then JUMPs."""

# Translation: vCPUs ask for regions, the translator publishes them (codegen/hot.py has the protocol).
HEAT = 4096
"""Counters of a hart for the points of places, hashed by record; a power of two."""
OWN_HANDLERS = 64
"""Places of which a hart remembers the instruction's own handler, hashed by record; a power of two."""
HOLD_UPS = 16
"""Places of a hart at which regions were held up, hashed by record (codegen/refit.py); a power of two."""
POINTS_PER_SAMPLE, POINTS_PER_EXIT, POINTS_PER_QUICK_EXIT = 512, 8, 1
"""Points for a place where a slice ended, and for one without a region that an optimised or a quick region leads to. A
sample stands for 8,192 instructions, some 8 us. To leave a quick region costs 20 ns, an optimised one several times as
much."""
KNOWN_GUEST, KNOWN_GUEST_FACTOR = 64, 4
"""Regions from the cache in use that make a guest a known one, in which a place without a region must be so many times
hotter: what was not hot enough before hardly is now."""
HEAT_ROUND = 4096 * POINTS_PER_SAMPLE
"""Points after which a place begins again with none."""
REQUESTS, REGION_PAGES, MAX_REGIONS = 64, 2048, 16384
REGIONS_SIZE = 64 << 20
"""Bytes of memory for the code of regions."""
REFUSED = "unfit"
REGION_EXITS = ("interpreter", "slow instruction", "miss", "poll", "unknown page", REFUSED)
"""Where regions lead to, if not to another region: code without one, an instruction left to the interpreter, one
that needed more than the fast form (a TLB miss, say), the look around at a back edge that found something, a page that
the ITLB lacks; and regions that were not entered since what they depend on is not so."""
REGION_VISIT = 1 << 24
"""HART.region_work counts a visit so, and an instruction as 1: more than there are in a slice."""
BUCKETS = 24
"""Of a histogram by powers of two: 0, 1, 2 to 3, 4 to 7, ...; the last one has what is larger."""

TIERS = ("regions", "interpreter", "outside")
"""Where a hart's process can be: in translated code, in the interpreter and its routines, elsewhere (C, Python)."""
ELSEWHERE = (1 << 64) - 1
"""SAMPLE.host outside of generated code."""
SAMPLES = 8192
"""In a hart's ring; a power of two."""
SAMPLE = Struct(
    "Sample",
    (
        Item("host", "u64", "hart", "pc of the host, a handler offset, or ELSEWHERE"),
        Item("pc", "u64", "hart", "pc of the guest; in a region: where that was entered"),
        Item("satp", "u64", "hart", "the CSR"),
        Item("priv", "u64", "hart", "privilege"),
    ),
    32,
)

REQUEST = Struct(
    "Request",
    (
        Item("state", "u64", "any", "0 free, 1 being filled by a hart, 2 ready for the translator"),
        Item("hart", "u64", "any", "who asks"),
        Item("offset", "u64", "any", "page offset of the region's first instruction"),
        Item("rank", "u64", "any", "what is wanted: Kind.rank of unit.py"),
        Item("page", "u64", "any", "its page in that hart's decode cache"),
        Item("address", "u64", "any", "virtual address of that page"),
        Item("left_page", "u64", "any", "page of the region that leads there, + 1; 0: it was found otherwise"),
        Item("left_offset", "u64", "any", "where that region was entered"),
        Item("left_distance", "i64", "any", "that page's distance from `page`, in pages"),
        Item("left_jump", "u64", "any", "virtual address of the jalr that has often led there from that region, or 0"),
        Item("count", "u64", "any", "pages around that the hart can jump to"),
        Item("around", "u64", "any", "each: distance from `page` in pages << 32, its page in the cache", ITLB_ENTRIES),
    ),
    64,
)
REGION_PLACE = Struct(
    "RegionPlace",
    (
        Item("offset", "u32", "translator", "page offset of an instruction where a region can be entered"),
        Item("code", "u32", "translator", "handler offset of the code for that"),
    ),
    8,
)
REGION_ENTRY = Struct(
    "RegionEntry",
    (
        Item("page", "u32", "translator", "index of its page"),
        Item("code", "u32", "translator", "handler offset"),
        Item("next", "u32", "translator", "next region of the page + 1, or 0"),
        Item(
            "places",
            "u32",
            "translator",
            "handler offset of an array of RegionPlace: where it can be entered; head first",
        ),
        Item("count", "u32", "translator", "elements of that"),
        Item("rank", "u32", "translator", "Kind.rank of unit.py"),
        Item("cached", "u32", "translator", "1: it comes from the cache on disk"),
    ),
    8,
)
TRANSLATOR = Struct(
    "Translator",
    (
        Item("doorbell", "u64", "build", "eventfd of the translator"),
        Item("stop", "u64", "coordinator", "1: write what has to be kept, and end"),
        Item("ready", "u64", "any", "1: the translator serves (coordinator: 0 again when it has died)"),
        Item("published", "u64", "translator", "regions that are complete, written last", align=64),
        Item("pages", "u64", "translator", "pages that are complete"),
        Item("code_end", "u64", "translator", "handler offset behind all code of regions that are complete"),
        Item("code_used", "u64", "translator", "bytes of region memory given out; written before they are used"),
        # statistics, restarts of the translator included
        Item("units_translated", "u64", "translator", "units compiled and published"),
        Item("units_loaded", "u64", "translator", "units published that the cache on disk had"),
        Item("instructions", "u64", "translator", "guest instructions of the units compiled"),
        Item("compile_us", "u64", "translator", "CPU time that compiling took"),
        Item("code_bytes", "u64", "translator", "bytes of code of all units published"),
        Item("failed", "u64", "translator", "requests that ended in an exception: bugs"),
        Item("dropped", "u64", "translator", "requests that there was no room for; harts count theirs themselves"),
        Item("restarts", "u64", "coordinator", "times a dead translator was started anew"),
        Item("page_hash", "u64", "translator", "hash per page", REGION_PAGES, align=64),
        Item("page_first", "u32", "translator", "its newest region + 1, or 0", REGION_PAGES),
        Item("page_used", "u8", "any", "1: a hart has put a region of the page to use", REGION_PAGES),
        Item("identity", "u64", "translator", "digest of what the region was translated from", MAX_REGIONS, align=64),
        Item("page_copy", "u8", "translator", "its bytes", REGION_PAGES * PAGE, align=64),
        Item("regions", "u8", "translator", "MAX_REGIONS RegionEntry", MAX_REGIONS * REGION_ENTRY.size, align=64),
        Item("requests", "u8", "any", "REQUESTS Request", REQUESTS * REQUEST.size, align=64),
    ),
    PAGE,
)

# Interrupt lines into a hart: a byte each, so that each has one writer; native code reads all eight as one u64.
# `kick` is the exception: bit 0 (messages to read), 1 (a page is being marked for LR/SC) and 2 (mtimecmp) are set by
# atomic or.
LINES = ("msip", "mtip", "meip", "ssip", "stip", "seip", "kick", "stop")

HART = Struct(
    "Hart",
    (
        Item("x", "u64", "hart", "x0..x31 and a sink for writes to x0", 33),
        Item("f", "u64", "hart", "f0..f31", 32),
        *(Item(f.name, "u64", "hart", f.doc) for f in STATE),
        # -- run state of the native loop
        Item("instret", "u64", "hart", "instructions retired; exact whenever the hart is not running"),
        Item("slice_end", "u64", "hart", "instret at which back edges leave for the poll of clock and quantum"),
        Item("quantum_end", "u64", "hart", "deterministic mode: instret at which run() returns QUANTUM"),
        Item("line_mask", "u64", "hart", "0xff in the bytes of `lines` that would interrupt now (kick, stop always)"),
        Item("regime", "u64", "hart", "address of the current REGIME"),
        Item("rp", "u64", "hart", "address of the record by which the last region was entered"),
        Item("last_stamp", "u64", "hart", "the last REGIME.stamp that was given out"),
        Item("delta", "u64", "hart", "of the current code page, see ItlbEntry"),
        Item("deadline", "u64", "hart", "mtime at which the next timer line rises"),
        Item("reservation", "u64", "hart", "RAM offset reserved by LR, or all ones"),
        Item("reservation_version", "u64", "hart", "its version word at the LR"),
        # of the last LR, if it began a tight sequence (codegen/tight.py); else tight_due is 0
        Item("tight_due", "u64", "hart", "instret at which its SC is due"),
        Item("tight_word", "u64", "hart", "host address of what it read, + 1 if that has 64 bits; 0: the SC has been"),
        Item("tight_value", "u64", "hart", "what it read"),
        Item("tight_distrust", "u64", "hart", "LRs to come that shall not begin one"),
        Item("lrsc_epoch", "u64", "hart", "the last page-mark epoch that this hart has seen"),
        Item(
            "marked_updates", "u64", "hart", "updates of marked pages since this hart last looked whether one is of use"
        ),
        Item("locked_version", "u64", "hart", "address of the version word that a slow RMW holds, or 0"),
        Item("turn_count", "u64", "hart", "%cnt (see codegen/handlers.py) at the last turn of a spin loop"),
        Item("pause_count", "u64", "hart", "... and at the last PAUSE"),
        Item("spins", "u64", "hart", "spin iterations since the last yield"),
        Item("fcsr_host", "u64", "hart", "modes and flags of the host's FPU while the hart rests (codegen/host.py)"),
        # -- why run() returned
        Item("exit_reason", "u64", "hart", "ExitReason"),
        Item("mmio_address", "u64", "hart", "physical address of the far access"),
        Item("mmio_size", "u64", "hart", "1, 2, 4, 8"),
        Item("mmio_write", "u64", "hart", "1: a store of mmio_value"),
        Item("mmio_value", "u64", "hart", "store data; then the reply's value"),
        Item("mmio_latch", "u64", "hart", "1: the reply is in mmio_value for the instruction to consume; 2: bus error"),
        # -- the decode cache; all but code_pages is private memory of the vCPU process that runs the hart
        Item("records", "u64", "build", "address of the pool of record pages"),
        Item(
            "code_pages",
            "u64",
            "build",
            "address of their CODE_PAGEs and of the JUMPs, which the translator reads",
        ),
        Item("record_pages", "u64", "build", "pages in the pool"),
        Item("record_next", "u64", "hart", "next unused page of the pool"),
        Item("record_high", "u64", "hart", "pages of the pool that were ever used"),
        Item("page_index", "u64", "build", "address of the table RAM or ROM page -> pool page + 1 (u32)"),
        Item("code_generation", "u64", "hart", "bumped where stale code must be noticed (FENCE.I, SFENCE.VMA)"),
        Item("host", "u64", "build", "address of the table of host functions (libc)"),
        Item("machine", "u64", "build", "address of MACHINE"),
        Item("handlers", "u64", "build", "address that record handler offsets are relative to"),
        Item("regions_start", "u64", "build", "handler offsets from here on are translated regions"),
        # -- translation (codegen/hot.py)
        Item("translator", "u64", "build", "address of TRANSLATOR, 0: none"),
        Item("first_tier", "u64", "build", "tier of unit.py that is asked for first"),
        Item("hotness_2", "u64", "build", "points that make a place worth an optimised region"),
        Item("hotness", "u64", "build", "points that make a place hot"),
        Item("hotness_known", "u64", "build", "the same once `cached_regions` is KNOWN_GUEST"),
        Item("cached_regions", "u64", "hart", "regions from the cache that were put into records"),
        Item("code_synced", "u64", "hart", "handler offset below which this hart may execute what others have written"),
        Item("regions_seen", "u64", "hart", "regions of TRANSLATOR that were looked at"),
        Item("translated_pages_seen", "u64", "hart", "the same of its pages"),
        Item("left_page", "u64", "hart", "virtual address of the page of `rp`, if the region led to code without one"),
        Item("left_jump", "u64", "hart", "that of the jalr by which the region was left, if it often is"),
        Item("heat", "u32", "hart", "points by hashed record", HEAT),
        # the instructions' own handlers, where records lead to regions, by hashed record (codegen/decoder.py)
        Item("own_record", "u64", "hart", "the record", OWN_HANDLERS),
        Item("own_handler", "u32", "hart", "its instruction's handler, as an offset", OWN_HANDLERS),
        # regions that were refused, or left for accesses that they can't do, by hashed record (codegen/refit.py)
        Item("held_record", "u64", "hart", "the record by which it was entered", HOLD_UPS),
        Item("held_times", "u64", "hart", "how often in a row", HOLD_UPS),
        Item("held_at", "u64", "hart", "instructions executed in regions until the last time", HOLD_UPS),
        # -- statistics
        Item("exits", "u64", "hart", "run() returns by ExitReason", 32),
        Item("traps", "u64", "hart", "synchronous exceptions taken"),
        Item("interrupts", "u64", "hart", "interrupts taken"),
        Item("ipis", "u64", "hart", "IPIs sent (MSIP or SSIP of another hart set)"),
        Item("tlb_misses", "u64", "hart", "translations that walked or were denied"),
        Item("mmio_near", "u64", "hart", "near device accesses"),
        Item("yields", "u64", "hart", "times a spinning hart gave its core away"),
        Item("sleeps", "u64", "hart", "WFI that slept"),
        Item("pages_decoded", "u64", "hart", "code pages entered in the decode cache"),
        Item("pages_marked", "u64", "hart", "pages that this hart marked for LR/SC"),
        Item("pages_unmarked", "u64", "hart", "pages that this hart took the mark from"),
        Item("requests", "u64", "hart", "translations asked for"),
        Item("requests_dropped", "u64", "hart", "places that were hot while no slot of TRANSLATOR.requests was free"),
        Item(
            "region_work", "u64", "hart", "of the slice so far: REGION_VISIT per visit of a region, 1 per instruction"
        ),
        Item("region_visits", "u64", "hart", "regions entered, in the slices before"),
        Item("region_instructions", "u64", "hart", "instructions retired in them"),
        Item("region_exits", "u64", "hart", "by REGION_EXITS", len(REGION_EXITS)),
        Item("poll_distance", "u64", "hart", "histogram: instructions from a slice's end to the next poll", BUCKETS),
        Item("timer_lateness", "u64", "hart", "histogram: ticks from a timer's deadline to its line, awake", BUCKETS),
        # -- samples of the process that runs the hart (codegen/sampler.py)
        Item("sample_period", "u64", "build", "ns of CPU time between two of them; 0: none"),
        Item("sampler", "u64", "build", "address of the signal handler"),
        Item("samples", "u64", "build", "address of a ring of SAMPLES SAMPLE; 0: they are only counted"),
        Item("samples_taken", "u64", "hart", "that were put there"),
        Item("tier_samples", "u64", "hart", "by TIERS", len(TIERS)),
        # -- written by others: cache lines of their own
        Item("lines", "u8", "any", "interrupt lines, see LINES; each byte has one writer", 8, align=64),
        Item("asleep", "u64", "hart", "1 from before the last look at `lines` until awake again", align=64),
        Item("wake_fd", "u64", "build", "eventfd that wakes this hart"),
        Item("mtimecmp", "u64", "any", "ACLINT mtimecmp; a remote writer also kicks the hart"),
        Item("lrsc_ack", "u64", "hart", "page-mark epoch acknowledged; all ones while idle", align=64),
        # -- scratch for an instruction that straddles two pages, and the TLBs
        Item("scratch", "u8", "hart", "records of a straddling instruction", 64, align=64),
        Item("scratch_key", "u64", "hart", "virtual address and ..."),
        Item("scratch_word", "u64", "hart", "... bits that the scratch records were decoded from"),
        Item("regimes", "u8", "hart", "REGIMES Regime structs", REGIMES * REGIME.size, align=64),
        Item("tlb2", "u8", "hart", "TLB2_ENTRIES Tlb2Entry", TLB2_ENTRIES * TLB2_ENTRY.size, align=64),
    ),
    PAGE,
)

MACHINE = Struct(
    "Machine",
    (
        Item("harts", "u64", "build", "number of harts"),
        Item("hart0", "u64", "build", "address of the first HART"),
        Item("ram", "u64", "build", "host address of guest RAM"),
        Item("ram_base", "u64", "build", "guest physical address of RAM"),
        Item("ram_size", "u64", "build", "bytes"),
        # -- memory that harts can execute from besides RAM
        Item("rom_base", "u64", "build", "guest physical address, page-aligned", 4),
        Item("rom_size", "u64", "build", "bytes, whole pages; 0: unused", 4),
        Item("rom_host", "u64", "build", "host address", 4),
        Item("mrom", "u8", "build", "the boot ROM (reset vector)", PAGE, align=PAGE),
        # -- mtime: (host ns - clock_epoch) / 100 while running
        Item("clock_mode", "u64", "coordinator", "0 running, 1 frozen at clock_value, 2 virtual (stepped)"),
        Item("clock_epoch", "u64", "coordinator", "CLOCK_MONOTONIC ns at mtime 0"),
        Item("clock_value", "u64", "coordinator", "mtime while frozen or virtual"),
        # -- exact LR/SC: marks and versions, see docs/design
        Item("lrsc_epoch", "u64", "any", "atomic counter: bumped when a page is being marked", align=64),
        Item("marked_pages", "u64", "any", "atomic counter: at least as many as have marks"),
        Item("mark_tokens", "u64", "any", "atomic counter: the last token that was given out"),
        Item("mark_patience", "u64", "build", "updates of marked pages by a hart between its looks at one's mark"),
        Item("page_marks", "u64", "build", "address of one u32 per RAM page, see codegen/marks.py"),
        Item("page_dma", "u64", "build", "address of one u32 per RAM page: devices that are writing to it (atomic)"),
        Item("versions", "u64", "any", "version word per hashed 64-byte granule", VERSION_WORDS, align=64),
        # -- PLIC: under plic_lock
        Item("plic_lock", "u64", "any", "0, or hart + 1 of the holder (MAX_HARTS + 1: the coordinator)", align=64),
        Item("plic_level", "u8", "coordinator", "input lines; the UART's: any, under uart_lock", PLIC_SOURCES),
        Item("plic_pending", "u8", "any", "gateway has latched a request", PLIC_SOURCES),
        Item("plic_claimed", "u8", "any", "claimed and not yet completed", PLIC_SOURCES),
        Item("plic_priority", "u32", "any", "priority registers", PLIC_SOURCES),
        Item("plic_threshold", "u32", "any", "per context", 2 * MAX_HARTS),
        Item("plic_enable", "u32", "any", "enable bits: context * 3 + word", 2 * MAX_HARTS * 3),
        # -- UART (codegen/uart.py): all of it under uart_lock, which is taken before plic_lock or without it
        Item("uart_lock", "u64", "any", "as plic_lock", align=64),
        Item("uart_ier", "u64", "any", "interrupt enable register"),
        Item("uart_fcr", "u64", "any", "FIFO control register, as far as it has a state"),
        Item("uart_lcr", "u64", "any", "line control register"),
        Item("uart_mcr", "u64", "any", "modem control register"),
        Item("uart_msr", "u64", "any", "modem status register"),
        Item("uart_scr", "u64", "any", "scratch register"),
        Item("uart_divisor", "u64", "any", "divisor latches, DLM << 8 | DLL"),
        Item("uart_errors", "u64", "any", "error bits of the line status register"),
        Item("uart_empty_pending", "u64", "any", "1: the transmitter-empty interrupt is due"),
        Item("uart_fifo_first", "u64", "any", "index of the oldest character of the receive FIFO"),
        Item("uart_fifo_count", "u64", "any", "characters in it"),
        Item("uart_fifo", "u8", "any", "the receive FIFO", UART_FIFO),
        # counts of characters since the machine was built; a ring's index is the count modulo UART_RING
        Item("uart_tx_tail", "u64", "any", "output: sent by harts ..."),
        Item("uart_tx_head", "u64", "any", "... and taken by the coordinator"),
        Item("uart_tx_limit", "u64", "any", "where harts stop: at most uart_tx_head + UART_RING"),
        Item("uart_tx_idle", "u64", "any", "1: the coordinator has taken all; ring at the next character"),
        Item("uart_rx_tail", "u64", "any", "input: stored by the coordinator ..."),
        Item("uart_rx_head", "u64", "any", "... and moved to the FIFO by harts"),
        Item("uart_rx_waiting", "u64", "any", "1: the coordinator has more; ring when half of the ring is free"),
        Item("uart_ring", "u64", "any", "1: ring when the lock is released"),
        Item("uart_doorbell", "u64", "build", "eventfd + 1 of the coordinator, 0: none"),
        Item("uart_tx", "u8", "any", "the ring of output", UART_RING),
        Item("uart_rx", "u8", "any", "the ring of input", UART_RING),
        # -- virtio-mmio: interrupt status and doorbells, near
        Item("virtio_isr", "u32", "any", "InterruptStatus: coordinator sets bits, InterruptACK clears them", 8),
        Item("virtio_doorbell", "u64", "build", "eventfd + 1 that QueueNotify of the slot rings, 0: far access", 8),
        Item("virtio_notify", "u64", "any", "bit q: queue q was notified (atomic or / exchange)", 8),
    ),
    PAGE,
)


def state_segment_size(harts: int) -> int:
    """Bytes of the segment that holds MACHINE and the harts."""
    return MACHINE.size + harts * HART.size


def hart_offset(hart: int) -> int:
    """Offset of a hart's struct in the state segment."""
    return MACHINE.size + hart * HART.size
