/* The header as C++, with nothing included before it. */
#include "dynofa.h"

int main() {
    return dynofa_version() == DYNOFA_VERSION ? 0 : 1;
}
