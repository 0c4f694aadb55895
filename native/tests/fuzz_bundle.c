/* libFuzzer target for the bundle reader and everything that opening does with its numbers: fuzz.sh
 * builds and runs it. */
#include "dynofa.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dynofa_model *m = NULL;
    (void)dynofa_model_open_memory(data, size, NULL, &m);
    dynofa_model_free(&m);
    return 0;
}
