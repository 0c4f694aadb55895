/* Drives the back-end as the app does: backend_test LIBRARY BUNDLE [IMAGES LABELS]. The images and
 * labels are IDX files of the size of the bundle's last level; most must be classified as labelled.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"

static int failures;

#define CHECK(condition)                                                                           \
    ((condition)                                                                                   \
         ? (void)0                                                                                 \
         : (void)(failures++, printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #condition)))

/* Function pointers of every name that the app looks up. */
#define FUNCTIONS(X)                                                                               \
    X(matches_hardware)                                                                            \
    X(create)                                                                                      \
    X(vendor_name)                                                                                 \
    X(accelerator_name)                                                                            \
    X(name)                                                                                        \
    X(delete)                                                                                      \
    X(issue_query)                                                                                 \
    X(flush_queries)                                                                               \
    X(get_input_count)                                                                             \
    X(get_input_type)                                                                              \
    X(set_input)                                                                                   \
    X(get_output_count)                                                                            \
    X(get_output_type)                                                                             \
    X(get_output)                                                                                  \
    X(convert_inputs)

#define POINTER(name) static __typeof__(&mlperf_backend_##name) name;
FUNCTIONS(POINTER)

static bool load(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        printf("%s\n", dlerror());
        return false;
    }
#define LOOK_UP(name)                                                                              \
    *(void **)&name = dlsym(library, "mlperf_backend_" #name);                                     \
    if (name == NULL) {                                                                            \
        printf("%s has no mlperf_backend_" #name "\n", path);                                      \
        return false;                                                                              \
    }
    FUNCTIONS(LOOK_UP)
    return true;
}

static unsigned char *read_file(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return NULL;
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    unsigned char *bytes = malloc(*size);
    if (fread(bytes, 1, *size, f) != *size)
        *size = 0;
    fclose(f);
    return bytes;
}

/* What the app does with a setting that is wrong, or a file that is none: no back-end. */
static void test_refusals(const char *bundle) {
    mlperf_backend_configuration_t c = {.batch_size = 1, .count = 1};
    c.keys[0] = "level";
    c.values[0] = "99";
    CHECK(create(bundle, &c, "") == NULL);
    c.values[0] = "fast";
    CHECK(create(bundle, &c, "") == NULL);
    CHECK(create("/nonexistent", NULL, "") == NULL);
    delete (NULL);
}

static void test_one(const char *bundle) {
    const char *message = "", *settings = NULL;
    CHECK(matches_hardware(&message, &settings, NULL) && message == NULL && settings != NULL);
    mlperf_backend_ptr_t b = create(bundle, NULL, "");
    CHECK(b != NULL);
    if (b == NULL)
        return;
    CHECK(strlen(vendor_name(b)) > 0 && strlen(name(b)) > 0);
    printf("%s\n", accelerator_name(b));
    CHECK(get_input_count(b) == 1 && get_output_count(b) == 1);
    mlperf_data_t in = get_input_type(b, 0), out = get_output_type(b, 0);
    CHECK(in.type == MLPERF_FLOAT32 && in.size > 0 && out.type == MLPERF_FLOAT32 && out.size > 0);
    CHECK(issue_query(b) == MLPERF_FAILURE); /* no input yet */
    float *image = calloc((size_t)in.size, sizeof *image);
    void *logits = NULL;
    CHECK(set_input(b, 1, 0, image) == MLPERF_FAILURE && set_input(b, 0, 1, image) != 0);
    CHECK(set_input(b, 0, 0, image) == MLPERF_SUCCESS);
    CHECK(issue_query(b) == MLPERF_SUCCESS && flush_queries(b) == MLPERF_SUCCESS);
    CHECK(get_output(b, 1, 0, &logits) == MLPERF_FAILURE);
    CHECK(get_output(b, 0, 0, &logits) == MLPERF_SUCCESS && logits != NULL);
    free(image);
    delete (b);
}

enum { IMAGES_HEAD = 16, LABELS_HEAD = 8, BATCH = 50 };

static void test_images(const char *bundle, const char *images_path, const char *labels_path) {
    size_t images_size = 0, labels_size = 0;
    unsigned char *images = read_file(images_path, &images_size);
    unsigned char *labels = read_file(labels_path, &labels_size);
    mlperf_backend_configuration_t c = {.batch_size = BATCH, .count = 1};
    c.keys[0] = "threads";
    c.values[0] = "2";
    mlperf_backend_ptr_t b = create(bundle, &c, "");
    CHECK(images != NULL && labels != NULL && b != NULL && labels_size > LABELS_HEAD);
    if (failures > 0)
        return;
    size_t pixels = (size_t)get_input_type(b, 0).size / 3, classes = get_output_type(b, 0).size;
    size_t count = labels_size - LABELS_HEAD, right = 0;
    CHECK(images_size == IMAGES_HEAD + count * pixels && count % BATCH == 0);
    float *input = malloc(BATCH * pixels * 3 * sizeof *input);
    for (size_t from = 0; from < count && failures == 0; from += BATCH) {
        for (size_t i = 0; i < BATCH; i++) {
            float *to = input + i * pixels * 3;
            /* Mean and deviation of the bundle's preprocessing, the same for its three channels. */
            for (size_t p = 0; p < pixels * 3; p++) {
                float grey = images[IMAGES_HEAD + (from + i) * pixels + p / 3];
                to[p] = (grey / 255 - 0.286F) / 0.353F;
            }
            CHECK(set_input(b, (int32_t)i, 0, to) == MLPERF_SUCCESS);
        }
        CHECK(issue_query(b) == MLPERF_SUCCESS && flush_queries(b) == MLPERF_SUCCESS);
        for (size_t i = 0; i < BATCH; i++) {
            void *data = NULL;
            CHECK(get_output(b, (uint32_t)i, 0, &data) == MLPERF_SUCCESS);
            const float *logits = data;
            size_t best = 0;
            for (size_t k = 1; k < classes; k++)
                if (logits[k] > logits[best])
                    best = k;
            right += best == labels[LABELS_HEAD + from + i];
        }
    }
    printf("%zu of %zu images as labelled\n", right, count);
    CHECK(right * 100 >= count * 94);
    free(input);
    free(images);
    free(labels);
    delete (b);
}

int main(int argc, char **argv) {
    if (argc != 3 && argc != 5) {
        fprintf(stderr, "usage: backend_test LIBRARY BUNDLE [IMAGES LABELS]\n");
        return 2;
    }
    if (!load(argv[1]))
        return 1;
    test_refusals(argv[2]);
    test_one(argv[2]);
    if (argc == 5)
        test_images(argv[2], argv[3], argv[4]);
    printf("%d failures\n", failures);
    return failures > 0;
}
