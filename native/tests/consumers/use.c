/* A product that links the library: use BUNDLE. It has functions of its own whose names the engine
 * uses inside. */
#include <dynofa.h>
#include <stdio.h>
#include <stdlib.h>

int fail(void);
int fail(void) {
    return 0;
}
int json_skip(void);
int json_skip(void) {
    return 0;
}

int main(int argc, char **argv) {
    dynofa_model *model = NULL;
    dynofa_session *session = NULL;
    if (argc != 2 || dynofa_version() != DYNOFA_VERSION ||
        dynofa_model_open(argv[1], NULL, &model) != DYNOFA_OK ||
        dynofa_session_new(model, NULL, &session) != DYNOFA_OK) {
        fprintf(stderr, "use: %s\n", dynofa_error());
        return 1;
    }
    dynofa_model_info info = {.struct_size = sizeof info};
    dynofa_session_info now = {.struct_size = sizeof now};
    dynofa_model_describe(model, &info);
    dynofa_session_describe(session, &now);
    float *image = calloc(now.image_floats, sizeof *image);
    float *logits = calloc(info.classes, sizeof *logits);
    dynofa_status status =
        dynofa_session_run(session, image, now.image_floats, logits, info.classes);
    printf("native/%s, level %d: %s, first logit %.4f\n", now.isa, (int)now.level,
           dynofa_status_name(status), (double)logits[0]);
    free(image);
    free(logits);
    dynofa_session_free(&session);
    dynofa_model_free(&model);
    return (int)status + fail() + json_skip();
}
