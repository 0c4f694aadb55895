/* Open a bundle, run one image: 01_run BUNDLE */
#include <stdio.h>
#include <stdlib.h>

#include "dynofa.h"

int main(int argc, char **argv) {
    dynofa_model *model = NULL;
    dynofa_session *session = NULL;
    if (argc != 2 || dynofa_model_open(argv[1], NULL, &model) != DYNOFA_OK ||
        dynofa_session_new(model, NULL, &session) != DYNOFA_OK) {
        fprintf(stderr, "01_run: %s\n", argc != 2 ? "usage: 01_run BUNDLE" : dynofa_error());
        dynofa_model_free(&model);
        return 2;
    }
    dynofa_model_info info = {.struct_size = sizeof info};
    dynofa_session_info now = {.struct_size = sizeof now};
    dynofa_model_describe(model, &info);
    dynofa_session_describe(session, &now);

    /* A grey image: real ones are preprocessed as the bundle's space says. */
    float *image = calloc(now.image_floats, sizeof *image);
    float *logits = calloc(info.classes, sizeof *logits);
    dynofa_status status = DYNOFA_E_MEMORY;
    if (image != NULL && logits != NULL)
        status = dynofa_session_run(session, image, now.image_floats, logits, info.classes);
    if (status == DYNOFA_OK) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < info.classes; i++)
            if (logits[i] > logits[best])
                best = i;
        printf("level %d on native/%s: class %u\n", (int)now.level, now.isa, (unsigned)best);
    } else {
        fprintf(stderr, "01_run: %s: %s\n", dynofa_status_name(status),
                dynofa_session_error(session));
    }
    free(image);
    free(logits);
    dynofa_session_free(&session);
    dynofa_model_free(&model);
    return status == DYNOFA_OK ? 0 : 1;
}
