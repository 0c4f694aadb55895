/* The header as C99, with nothing included before it. */
#include "dynofa.h"

int main(void) {
    return dynofa_version() == DYNOFA_VERSION ? 0 : 1;
}
