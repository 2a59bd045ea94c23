/* The smallest guest: every hart says hello. */
#include "console.h"
#include "hart.h"

static void hello(unsigned hart) { print("hello from hart %u of %u\n", hart, harts); }

int main(void)
{
    parallel(hello, harts);
    return (int)argument("exit", 0);
}
