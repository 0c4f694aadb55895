/* Any sub-network of the space, with batch normalisation of its own: 04_configure BUNDLE */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dynofa.h"

enum { MAX_SLOTS = 1024 };

static int give_up(const char *what, dynofa_status status, dynofa_session *session,
                   dynofa_model *model) {
    fprintf(stderr, "04_configure: %s: %s: %s\n", what, dynofa_status_name(status),
            session != NULL ? dynofa_session_error(session) : dynofa_error());
    dynofa_session_free(&session);
    dynofa_model_free(&model);
    return 1;
}

int main(int argc, char **argv) {
    dynofa_model *model = NULL;
    dynofa_session *session = NULL;
    if (argc != 2) {
        fprintf(stderr, "usage: 04_configure BUNDLE\n");
        return 2;
    }
    dynofa_status status = dynofa_model_open(argv[1], NULL, &model);
    if (status == DYNOFA_OK)
        status = dynofa_session_new(model, NULL, &session);
    if (status != DYNOFA_OK)
        return give_up("open", status, session, model);
    dynofa_model_info info = {.struct_size = sizeof info};
    dynofa_model_describe(model, &info);

    /* Start from the last level and give its first block the kernel size of level 0's. */
    dynofa_subnet first = {.struct_size = sizeof first}, mixed = {.struct_size = sizeof mixed};
    uint32_t kernels[MAX_SLOTS];
    status = dynofa_model_level(model, 0, &first);
    if (status == DYNOFA_OK)
        status = dynofa_model_level(model, info.levels - 1, &mixed);
    if (status != DYNOFA_OK)
        return give_up("level", status, NULL, model);
    memcpy(kernels, mixed.kernels, mixed.slots * sizeof *kernels);
    kernels[0] = first.kernels[0];
    mixed.kernels = kernels;

    /* Without norms of its own it runs with the supernet's: quick to try, but a sub-network that
     * was calibrated is more accurate. */
    size_t floats = 0;
    status = dynofa_model_norm_floats(model, &mixed, &floats);
    float *norms = calloc(floats + 1, sizeof *norms),
          *logits = calloc(info.classes, sizeof *logits);
    float *image = calloc((size_t)mixed.resolution * mixed.resolution * 3, sizeof *image);
    if (status == DYNOFA_OK && (norms == NULL || logits == NULL || image == NULL))
        status = DYNOFA_E_MEMORY;
    for (int own = 0; own < 2 && status == DYNOFA_OK; own++) {
        for (size_t i = 0; own && i < floats; i++)
            norms[i] = 0.5F; /* scales and shifts as calibration would give them */
        status = dynofa_session_configure(session, &mixed, own ? norms : NULL, own ? floats : 0);
        dynofa_session_info now = {.struct_size = sizeof now};
        dynofa_session_describe(session, &now);
        if (status == DYNOFA_OK)
            status = dynofa_session_run(session, image, now.image_floats, logits, info.classes);
        if (status == DYNOFA_OK)
            printf("%s norms: plan %016llx, first logit %g\n", own ? "own" : "the supernet's",
                   (unsigned long long)now.plan, (double)logits[0]);
    }
    /* What the space has not is refused, and the old sub-network stays. */
    kernels[0] = 4;
    if (status == DYNOFA_OK &&
        dynofa_session_configure(session, &mixed, NULL, 0) == DYNOFA_E_SUBNET)
        printf("refused: %s\n", dynofa_session_error(session));
    free(norms);
    free(image);
    free(logits);
    if (status != DYNOFA_OK)
        return give_up("run", status, session, model);
    dynofa_session_free(&session);
    dynofa_model_free(&model);
    return 0;
}
