/* Bundles that lie: hostile_test TINY, the bundle of seeds/. Each variant has to come to its status
 * and a sentence with the thing, its value and what was expected, from memory as from a file.
 * Memory ends where a page begins that cannot be touched. */
#define _DEFAULT_SOURCE

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dynofa.h"
#include "test.h"

enum { LENGTH = 8, LONG = 200000 };

/* A bundle taken apart: the header's text and what follows it. */
typedef struct parts {
    char *text;
    size_t text_size;
    const unsigned char *body;
    size_t body_size;
} parts;

static char path[] = "/tmp/dynofa_hostile_XXXXXX";

static dynofa_status open_from_memory(const void *at, size_t size) {
    dynofa_model *m = NULL;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (size + page) / page * page;
    unsigned char *map =
        mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        exit(2);
    unsigned char *copy = map + room - size;
    memcpy(copy, at, size);
    mprotect(map, room, PROT_READ);
    mprotect(map + room, page, PROT_NONE);
    dynofa_status status = dynofa_model_open_memory(copy, size, NULL, &m);
    munmap(map, room + page);
    CHECK((status == DYNOFA_OK) == (m != NULL));
    dynofa_model_free(&m);
    return status;
}

static dynofa_status open_from_file(const void *at, size_t size) {
    dynofa_model *m = NULL;
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(at, 1, size, f) != size || fclose(f) != 0)
        exit(2);
    dynofa_status status = dynofa_model_open(path, NULL, &m);
    CHECK((status == DYNOFA_OK) == (m != NULL));
    dynofa_model_free(&m);
    return status;
}

/* Opens both ways; says are parts of the sentence. */
static void check(const char *name, const void *at, size_t size, dynofa_status expected,
                  const char *const says[3]) {
    for (int from_file = 0; from_file < 2; from_file++) {
        dynofa_status got = from_file ? open_from_file(at, size) : open_from_memory(at, size);
        const char *sentence = expected == DYNOFA_OK ? "" : dynofa_error();
        bool good = got == expected && strchr(sentence, '\n') == NULL;
        for (int i = 0; i < 3 && says != NULL && says[i] != NULL; i++)
            good = good && strstr(sentence, says[i]) != NULL;
        test_checks++;
        if (!good) {
            test_failures++;
            printf("%s: %s, expected %s: %s\n", name, dynofa_status_name(got),
                   dynofa_status_name(expected), dynofa_error());
        }
    }
}

/* Puts a bundle together. */
static unsigned char *join(const char *text, size_t text_size, const parts *p, size_t *size) {
    uint64_t length = text_size;
    *size = LENGTH + text_size + p->body_size;
    unsigned char *all = malloc(*size);
    memcpy(all, &length, LENGTH);
    memcpy(all + LENGTH, text, text_size);
    memcpy(all + LENGTH + text_size, p->body, p->body_size);
    return all;
}

/* Text with its quotes escaped, as the metadata lies in the header. */
static char *escaped(const char *text) {
    char *out = malloc(2 * strlen(text) + 1), *to = out;
    for (; *text != '\0'; text++) {
        if (*text == '"')
            *to++ = '\\';
        *to++ = *text;
    }
    *to = '\0';
    return out;
}

/* Replaces the first `from` of the header. */
static void check_edit(const parts *p, bool metadata, const char *from, const char *to,
                       dynofa_status expected, const char *const says[3]) {
    char *a = metadata ? escaped(from) : strdup(from), *b = metadata ? escaped(to) : strdup(to);
    const char *at = strstr(p->text, a);
    if (at == NULL) {
        printf("the header has no %s\n", a);
        exit(2);
    }
    size_t before = (size_t)(at - p->text), size = p->text_size - strlen(a) + strlen(b), all_size;
    char *text = malloc(size + 1);
    memcpy(text, p->text, before);
    memcpy(text + before, b, strlen(b));
    memcpy(text + before + strlen(b), at + strlen(a), p->text_size - before - strlen(a));
    unsigned char *all = join(text, size, p, &all_size);
    check(strlen(to) < 200 ? to : from, all, all_size, expected, says);
    free(all);
    free(text);
    free(a);
    free(b);
}

#define SAYS(...) {__VA_ARGS__}

static const struct edit {
    bool metadata;
    const char *from, *to;
    dynofa_status status;
    const char *says[3];
} edits[] = {
    /* Nothing changed, and what a reader of a later version may find */
    {true, "\"classes\":2", "\"classes\":2", DYNOFA_OK, SAYS("")},
    {true, "\"classes\":2", "\"novel\":{\"a\":[1,{}]},\"classes\":2", DYNOFA_OK, SAYS("")},
    /* Offsets and sizes */
    {false, "\"data_offsets\":[0,256]", "\"data_offsets\":[256,0]", DYNOFA_E_FORMAT,
     SAYS("reduce.weight", "[256 0]", "expected")},
    {false, "\"data_offsets\":[0,256]", "\"data_offsets\":[0,9999999]", DYNOFA_E_FORMAT,
     SAYS("reduce.weight", "[0 9999999]", "expected begin and end within 5256")},
    {false, "\"data_offsets\":[0,256]", "\"data_offsets\":[-1,255]", DYNOFA_E_FORMAT,
     SAYS("header at byte", "expected an offset of at least 0")},
    {false, "\"data_offsets\":[0,256]", "\"data_offsets\":[99999999999999999999,256]",
     DYNOFA_E_FORMAT, SAYS("header at byte", "expected an integer below 2^63")},
    {false, "\"data_offsets\":[0,256]", "\"data_offsets\":[0]", DYNOFA_E_FORMAT,
     SAYS("reduce.weight", "data_offsets", "expected")},
    {false, "\"data_offsets\":[0,256]", "\"data_offsets\":[0,256,512]", DYNOFA_E_FORMAT,
     SAYS("reduce.weight", "data_offsets", "expected")},
    {false, "\"data_offsets\":[256,512]", "\"data_offsets\":[0,256]", DYNOFA_E_FORMAT,
     SAYS("no tensor begins at byte 256", "expected", "overlaps")},
    {false, "\"data_offsets\":[512,576]", "\"data_offsets\":[511,575]", DYNOFA_E_FORMAT,
     SAYS("no tensor begins at byte 512", "expected", "overlaps")},
    {false, "\"data_offsets\":[0,256]", "\"data_offsets\":{0,256}", DYNOFA_E_FORMAT,
     SAYS("header at byte", "expected a string")},
    /* Shapes and types */
    {false, "\"shape\":[8,8,1,1]", "\"shape\":[4294967295,4294967295,4294967295,4294967295]",
     DYNOFA_E_FORMAT, SAYS("reduce.weight", "256 bytes", "expected F32")},
    {false, "\"shape\":[8,8,1,1]", "\"shape\":[4294967296]", DYNOFA_E_FORMAT,
     SAYS("header at byte", "expected a dimension of 0 to 2^32 - 1")},
    {false, "\"shape\":[8,8,1,1]", "\"shape\":[-8,8,1,1]", DYNOFA_E_FORMAT,
     SAYS("header at byte", "expected a dimension of 0 to 2^32 - 1")},
    {false, "\"shape\":[8,8,1,1]", "\"shape\":[8,8,1,1,1,1,1]", DYNOFA_E_FORMAT,
     SAYS("reduce.weight", "256 bytes", "at most four dimensions")},
    {false, "\"shape\":[8,8,1,1]", "\"shape\":[0,8,1,1]", DYNOFA_E_FORMAT,
     SAYS("reduce.weight", "256 bytes", "expected F32")},
    {false, "\"shape\":[8,8,1,1]", "\"shape\":[16,4,1,1]", DYNOFA_E_FORMAT,
     SAYS("reduce.weight", "[16 4 1 1]", "expected F32 [8 8 1 1]")},
    {false, "\"shape\":[8,8,1,1]", "\"shape\":[8.5,8,1,1]", DYNOFA_E_FORMAT,
     SAYS("header at byte", "expected an integer without a fraction")},
    {false, "\"shape\":[8,8,1,1]", "\"shape\":[08,8,1,1]", DYNOFA_E_FORMAT,
     SAYS("header at byte", "expected a number without leading zeros")},
    {false, "\"dtype\":\"F32\"", "\"dtype\":\"F16\"", DYNOFA_E_FORMAT,
     SAYS("reduce.weight", "expected F32")},
    /* Names */
    {false, "\"first_conv.bn.bias\"", "\"first_conv.bn.weight\"", DYNOFA_E_FORMAT,
     SAYS("first_conv.bn.weight", "twice")},
    {false, "\"first_conv.bn.bias\"", "\"first_conv.bn.bibs\"", DYNOFA_E_FORMAT,
     SAYS("missing tensor first_conv.bn.bias", "[2]")},
    {false, "\"first_conv.bn.bias\"", "\"first_conv.bn.b\\u0069as\"", DYNOFA_E_FORMAT,
     SAYS("first_conv.bn.b\\u0069as", "expected a name without escapes")},
    {false, "library/1/first_conv.bn/scale", "library/2/first_conv.bn/scale", DYNOFA_E_FORMAT,
     SAYS("missing tensor library/1/first_conv.bn/scale", "[2]")},
    {false, "5to3_matrix", "7to3_matrix", DYNOFA_E_FORMAT,
     SAYS("unexpected tensor blocks.1.conv.depth_conv.conv.7to3_matrix")},
    {false, "\"dynofa\"", "\"dinofa\"", DYNOFA_E_FORMAT,
     SAYS("no metadata \"dynofa\"", "expected")},
    {false, "\"dtype\":\"F32\"", "\"dtype\":\"F32\",\"dtype\":\"F16\"", DYNOFA_E_FORMAT,
     SAYS("header at byte", "expected no key twice")},
    {false, "\"__metadata__\":{", "\"__metadata__\":{\"dynofa\":\"{}\"},\"__metadata__\":{",
     DYNOFA_E_FORMAT, SAYS("__metadata__ is there twice")},
    {false, "\"__metadata__\":{", "\"__metadata__\":{},\"__metadata__\":{", DYNOFA_E_FORMAT,
     SAYS("__metadata__ is there twice")},
    {false, "{\"__metadata__\"", " {\"__metadata__\"", DYNOFA_E_FORMAT,
     SAYS("header at byte 8", "expected { as the first byte")},
    {false, "\"__metadata__\":{", "\"__metadata__\":{\"dynofa\":\"{}\",", DYNOFA_E_FORMAT,
     SAYS("header at byte", "expected no key twice")},
    {false, "\"__metadata__\":{", "\"__metadata__\":{\"n\":7,", DYNOFA_E_FORMAT,
     SAYS("header at byte", "expected a string")},
    /* Metadata */
    {true, "\"version\":1", "\"version\":2", DYNOFA_E_VERSION,
     SAYS("version is 2", "expected 1 to 1")},
    {true, "\"version\":1", "\"version\":0", DYNOFA_E_FORMAT,
     SAYS("version is 0", "expected 1 to 1")},
    {true, "\"version\":1", "\"version\":9223372036854775808", DYNOFA_E_FORMAT,
     SAYS("metadata at byte", "expected an integer below 2^63")},
    {true, "\"version\":1", "\"version\":1,\"version\":1", DYNOFA_E_FORMAT,
     SAYS("metadata at byte", "expected no key twice")},
    {true, "\"version\":1", "\"version\":1,\"sp\\\\u0061ce\":{}", DYNOFA_E_FORMAT,
     SAYS("metadata at byte", "expected a key without escapes")},
    {true, "\"space\":", "\"spice\":", DYNOFA_E_FORMAT, SAYS("metadata: no space")},
    {true, "\"version\":1,", "\"version\":1 ", DYNOFA_E_FORMAT,
     SAYS("metadata at byte", "expected a comma or }")},
    {false, "none: random", "none: \\u12G4", DYNOFA_E_FORMAT,
     SAYS("header at byte", "expected a string without malformed escapes")},
    {false, "none: random", "none: \\\\u12G4", DYNOFA_E_FORMAT,
     SAYS("metadata at byte", "expected a string without malformed escapes")},
    /* The space */
    {true, "\"classes\":2", "\"classes\":3", DYNOFA_E_FORMAT,
     SAYS("classifier.linear.weight is F32 [2 2]", "expected F32 [3 2]")},
    {true, "\"classes\":2", "\"classes\":1048577", DYNOFA_E_FORMAT,
     SAYS("space: classes is 1048577", "expected 1 to 1048576")},
    {true, "\"classes\":2", "\"classes\":1048576", DYNOFA_E_FORMAT,
     SAYS("classifier.linear.weight", "expected F32 [1048576 2]")},
    {true, "\"classes\":2", "\"classes\":-2", DYNOFA_E_FORMAT,
     SAYS("space: classes is -2", "expected 1 to 1048576")},
    {true, "\"classes\":2", "\"classes\":1e999", DYNOFA_E_FORMAT,
     SAYS("space: classes", "expected an integer without a fraction")},
    {true, "\"classes\":2", "\"classes\":\"2\"", DYNOFA_E_FORMAT,
     SAYS("space: classes at byte", "expected an integer")},
    {true, "\"classes\":2", "\"klasses\":2", DYNOFA_E_FORMAT, SAYS("space: classes is missing")},
    {true, "\"classes\":2", "\"classes\":2,\"classes\":2", DYNOFA_E_FORMAT,
     SAYS("space: ", "expected no key twice")},
    {true, "\"bn_eps\":0.001", "\"bn_eps\":1e999", DYNOFA_E_FORMAT,
     SAYS("space: bn_eps is inf", "expected a number between 0 and 1")},
    {true, "\"bn_eps\":0.001", "\"bn_eps\":1e-99999999999", DYNOFA_E_FORMAT,
     SAYS("space: bn_eps is 0", "expected a number between 0 and 1")},
    {true, "\"bn_eps\":0.001", "\"bn_eps\":NaN", DYNOFA_E_FORMAT,
     SAYS("metadata at byte", "expected a number")},
    {true, "\"bn_eps\":0.001", "\"bn_eps\":0.", DYNOFA_E_FORMAT,
     SAYS("metadata at byte", "expected a digit after the point")},
    {true, "\"channels\":2", "\"channels\":16385", DYNOFA_E_FORMAT,
     SAYS("space: stem.channels is 16385", "expected 1 to 16384")},
    {true, "\"channels\":2", "\"channels\":3", DYNOFA_E_FORMAT,
     SAYS("first_conv.conv.weight is F32 [2 3 3 3]", "expected F32 [3 3 3 3]")},
    {true, "\"stride\":2", "\"stride\":3", DYNOFA_E_FORMAT,
     SAYS("space: stem.stride is 3", "expected 1 to 2")},
    {true, "\"act\":\"h_swish\"", "\"act\":\"gelu\"", DYNOFA_E_FORMAT,
     SAYS("space: stem.act is \"gelu\"", "expected relu, relu6 or h_swish")},
    {true, "\"residual\":false", "\"residual\":true", DYNOFA_E_FORMAT,
     SAYS("space: first.residual is true", "expected false")},
    {true, "\"residual\":false", "\"residual\":0", DYNOFA_E_FORMAT,
     SAYS("space: first.residual at byte", "expected true or false")},
    {true, "\"stages\":[", "\"stages\":[{},", DYNOFA_E_FORMAT, SAYS("stages[0] lacks channels")},
    {true, "\"depths\":[1,2]", "\"depths\":[2,1]", DYNOFA_E_FORMAT,
     SAYS("depths has 1 in place 1", "expected an ascending list")},
    {true, "\"depths\":[1,2]", "\"depths\":[]", DYNOFA_E_FORMAT,
     SAYS("depths is empty", "expected")},
    {true, "\"depths\":[1,2]", "\"depths\":[1,33]", DYNOFA_E_FORMAT,
     SAYS("depths has 33 in place 1", "1 to 32")},
    {true, "\"kernels\":[3,5]", "\"kernels\":[3,4]", DYNOFA_E_FORMAT,
     SAYS("kernels has 4", "expected 3, 5 and 7")},
    {true, "\"kernels\":[3,5]", "\"kernels\":[3,7]", DYNOFA_E_FORMAT,
     SAYS("conv.conv.weight is F32 [8 1 5 5]", "expected F32 [8 1 7 7]")},
    {true, "\"expands\":[1]", "\"expands\":[1,32]", DYNOFA_E_FORMAT,
     SAYS("blocks.1.conv.inverted_bottleneck.conv.conv.weight", "expected F32 [32 1 1 1]")},
    {true, "\"resolutions\":[4,9]", "\"resolutions\":[4,4096]", DYNOFA_E_FORMAT,
     SAYS("resolutions has 4096", "1 to 2048")},
    /* The library */
    {true, "\"ks\":[3,3]", "\"ks\":[3]", DYNOFA_E_FORMAT,
     SAYS("level 0 at byte", "expected as many values as the space has slots")},
    {true, "\"ks\":[3,3]", "\"ks\":[3,3,3]", DYNOFA_E_FORMAT,
     SAYS("level 0 at byte", "expected as many values as the space has slots")},
    {true, "\"ks\":[3,3]", "\"ks\":[3,7]", DYNOFA_E_FORMAT,
     SAYS("level 0", "ks[1] is 7", "expected one of 2 values from 3 to 5")},
    {true, "\"ks\":[3,3]", "\"ks\":[3,70000]", DYNOFA_E_FORMAT, SAYS("level 0", "0 to 65535")},
    {true, "\"d\":[1]", "\"d\":[3]", DYNOFA_E_FORMAT,
     SAYS("level 0", "d[0] is 3", "expected one of 2 values from 1 to 2")},
    {true, "\"r\":4", "\"r\":5", DYNOFA_E_FORMAT,
     SAYS("level 0", "r is 5", "expected a resolution of the space")},
    {true, "\"r\":4", "\"r\":-4", DYNOFA_E_FORMAT, SAYS("level 0", "expected a resolution")},
    {true, "\"r\":4", "\"q\":4", DYNOFA_E_FORMAT, SAYS("level 0: subnet lacks one of ks, e, d, r")},
    {true, "\"macs\":560", "\"macs\":561", DYNOFA_E_FORMAT,
     SAYS("level 0: macs and params are 561 and 384", "expected 560 and 384")},
    {true, "\"macs\":560", "\"mac\":560", DYNOFA_E_FORMAT, SAYS("level 0", "-1", "expected 560")},
    {true, "\"macs\":560", "\"macs\":560,\"macs\":560", DYNOFA_E_FORMAT,
     SAYS("level 0", "expected no key twice")},
    {true, "\"library\":[", "\"library\":[7,", DYNOFA_E_FORMAT,
     SAYS("level 0 at byte", "expected an object")},
    {true, "\"library\":[", "\"library\":{", DYNOFA_E_FORMAT, SAYS("metadata at byte", "expected")},
};

static void test_edits(const parts *p) {
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++)
        check_edit(p, edits[i].metadata, edits[i].from, edits[i].to, edits[i].status,
                   edits[i].says);
}

/* Deep and wide JSON: what is not understood is skipped, within limits. */
static void test_long(const parts *p) {
    static char text[LONG + 64];
    static const char *const deep[3] = {"expected at most 64 nested brackets"},
                             *const many[3] = {"expected at most 32 keys"};
    for (int metadata = 0; metadata < 2; metadata++) {
        const char *key = metadata ? "\"version\":1" : "\"dtype\":\"F32\"";
        size_t n = (size_t)sprintf(text, "%s,\"x\":", key);
        memset(text + n, '[', LONG);
        text[n + LONG] = '\0';
        check_edit(p, metadata, key, text, DYNOFA_E_FORMAT, deep);
        n = (size_t)sprintf(text, "%s", key);
        for (int i = 0; i < 40; i++)
            n += (size_t)sprintf(text + n, ",\"x%d\":0", i);
        check_edit(p, metadata, key, text, DYNOFA_E_FORMAT, many);
    }
    static const char *const digits[3] = {"metadata at byte", "expected a number of fewer digits"};
    size_t n = (size_t)sprintf(text, "\"bn_eps\":0.");
    memset(text + n, '0', LONG);
    strcpy(text + n + LONG, "1");
    check_edit(p, true, "\"bn_eps\":0.001", text, DYNOFA_E_FORMAT, digits);
}

/* The length in front, and every shorter file. */
static void test_sizes(const bytes *file) {
    static const char *const length[3] = {"header length is", "expected at most"};
    unsigned char *copy = malloc(file->size);
    uint64_t said[] = {file->size - LENGTH + 1, UINT64_C(1) << 32, UINT64_C(1) << 63, UINT64_MAX};
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++) {
        memcpy(copy, file->at, file->size);
        memcpy(copy, &said[i], LENGTH);
        check("header length", copy, file->size, DYNOFA_E_FORMAT, length);
    }
    free(copy);
    for (size_t size = 0; size < file->size; size++) {
        CHECK_IS(open_from_memory(file->at, size), DYNOFA_E_FORMAT);
        if (size % 97 == 1)
            CHECK_IS(open_from_file(file->at, size), DYNOFA_E_FORMAT);
    }
    CHECK_IS(open_from_file("", 0), DYNOFA_E_FILE);
}

/* Where the numbers of a tensor begin in the file. */
static size_t tensor_at(const parts *p, const char *name) {
    const char *at = strstr(p->text, name);
    at = at == NULL ? NULL : strstr(at, "\"data_offsets\":[");
    if (at == NULL)
        exit(2);
    return LENGTH + p->text_size + strtoul(at + strlen("\"data_offsets\":["), NULL, 10);
}

static void test_numbers(const bytes *file, const parts *p) {
    static const struct {
        const char *tensor;
        uint32_t bits;
        const char *says[3];
    } numbers[] = {
        {"first_conv.conv.weight", 0x7fc00000u, {"first_conv.conv.weight", "nan", "finite"}},
        {"blocks.1.conv.depth_conv.conv.conv.weight", 0x7f800000u, {"[0] is inf", "finite"}},
        {"blocks.1.conv.depth_conv.conv.5to3_matrix", 0xff800000u, {"[0] is -inf", "finite"}},
        {"classifier.linear.bias", 0xffffffffu, {"classifier.linear.bias", "nan", "finite"}},
        {"library/1/first_conv.bn/shift", 0x7f800001u, {"library/1/first_conv.bn/shift", "nan"}},
        {"first_conv.bn.running_var", 0xbf800000u, {"[0] is -1", "at least 0"}},
        {"first_conv.bn.running_mean", 0x7f7fffffu, {"first_conv.bn", "shift", "finite"}},
    };
    unsigned char *copy = malloc(file->size);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        memcpy(copy, file->at, file->size);
        memcpy(copy + tensor_at(p, numbers[i].tensor), &numbers[i].bits, 4);
        if (strcmp(numbers[i].tensor, "first_conv.bn.running_mean") == 0) /* times a large scale */
            memcpy(copy + tensor_at(p, "first_conv.bn.weight"), &numbers[i].bits, 4);
        check(numbers[i].tensor, copy, file->size, DYNOFA_E_FORMAT, numbers[i].says);
    }
    free(copy);
}

/* A file that somebody cuts while it is read: the allocator that opening uses does it. */
static void *cut(void *context, size_t size, size_t align) {
    int *left = context;
    if ((*left)-- == 0 && truncate(path, LENGTH + 1) != 0)
        exit(2);
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void release(void *context, void *memory, size_t size) {
    (void)context, (void)size;
    free(memory);
}

static void test_cut(const bytes *file) {
    dynofa_config config;
    dynofa_config_init(&config);
    for (int at = 0;; at++) {
        dynofa_model *m = NULL;
        FILE *f = fopen(path, "wb");
        if (f == NULL || fwrite(file->at, 1, file->size, f) != file->size || fclose(f) != 0)
            exit(2);
        int left = at;
        config.allocator = (dynofa_allocator){cut, release, &left};
        dynofa_status status = dynofa_model_open(path, &config, &m);
        dynofa_model_free(&m);
        if (left >= 0) { /* all allocations were before: nothing was cut */
            CHECK(status == DYNOFA_OK && at > 4);
            return;
        }
        CHECK(status == DYNOFA_E_FILE || (status == DYNOFA_E_FORMAT && at == 0));
        CHECK(strstr(dynofa_error(), "expected") != NULL);
    }
}

/* Bytes at random: whatever comes, no crash. */
static void test_random(const bytes *file, const parts *p) {
    uint64_t seed = 5;
    unsigned char *copy = malloc(file->size);
    for (int i = 0; i < 3000; i++) {
        memcpy(copy, file->at, file->size);
        for (int j = 0; j < 3; j++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            copy[(seed >> 20) % (p->text_size + LENGTH)] = (unsigned char)(seed >> 56);
        }
        open_from_memory(copy, file->size);
    }
    free(copy);
}

int main(int argc, char **argv) {
    bytes file = argc == 2 ? read_file(argv[1]) : (bytes){NULL, 0};
    int fd = mkstemp(path);
    if (file.size < LENGTH || fd < 0) {
        fprintf(stderr, "usage: hostile_test TINY\n");
        return 2;
    }
    close(fd);
    uint64_t length;
    memcpy(&length, file.at, LENGTH);
    parts p = {malloc(length + 1), length, file.at + LENGTH + length, file.size - LENGTH - length};
    memcpy(p.text, file.at + LENGTH, length);
    p.text[length] = '\0';
    test_edits(&p);
    test_long(&p);
    test_sizes(&file);
    test_numbers(&file, &p);
    test_cut(&file);
    test_random(&file, &p);
    unlink(path);
    free(p.text);
    free(file.at);
    return test_result();
}
