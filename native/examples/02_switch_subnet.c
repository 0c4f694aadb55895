/* Switch between all levels of a library between two runs: 02_switch_subnet BUNDLE */
#include <stdio.h>
#include <stdlib.h>

#include "dynofa.h"

int main(int argc, char **argv) {
    dynofa_model *model = NULL;
    dynofa_session *session = NULL;
    if (argc != 2 || dynofa_model_open(argv[1], NULL, &model) != DYNOFA_OK ||
        dynofa_session_new(model, NULL, &session) != DYNOFA_OK) {
        fprintf(stderr, "02_switch_subnet: %s\n",
                argc != 2 ? "usage: 02_switch_subnet BUNDLE" : dynofa_error());
        dynofa_model_free(&model);
        return 2;
    }
    dynofa_model_info info = {.struct_size = sizeof info};
    dynofa_model_describe(model, &info);
    size_t most = (size_t)info.max_resolution * info.max_resolution * 3;
    float *image = calloc(most, sizeof *image), *logits = calloc(info.classes, sizeof *logits);
    dynofa_status status = image != NULL && logits != NULL ? DYNOFA_OK : DYNOFA_E_MEMORY;

    /* Each select is a change of pointers: the weights stay where they are. */
    for (uint32_t level = 0; level < info.levels && status == DYNOFA_OK; level++) {
        dynofa_session_info now = {.struct_size = sizeof now};
        status = dynofa_session_select(session, level);
        dynofa_session_describe(session, &now);
        if (status == DYNOFA_OK)
            status = dynofa_session_run(session, image, now.image_floats, logits, info.classes);
        if (status == DYNOFA_OK)
            printf("level %u: %u x %u pixels, %.1f M multiply-adds, first logit %g\n",
                   (unsigned)level, (unsigned)now.resolution, (unsigned)now.resolution,
                   (double)now.macs / 1e6, (double)logits[0]);
    }
    if (status != DYNOFA_OK)
        fprintf(stderr, "02_switch_subnet: %s: %s\n", dynofa_status_name(status),
                dynofa_session_error(session));
    free(image);
    free(logits);
    dynofa_session_free(&session);
    dynofa_model_free(&model);
    return status == DYNOFA_OK ? 0 : 1;
}
