// A product in C++: use BUNDLE.
#include <dynofa.h>

#include <cstdio>
#include <memory>
#include <vector>

int main(int argc, char **argv) {
    dynofa_model *model = nullptr;
    dynofa_session *session = nullptr;
    if (argc != 2 || dynofa_model_open(argv[1], nullptr, &model) != DYNOFA_OK ||
        dynofa_session_new(model, nullptr, &session) != DYNOFA_OK) {
        std::fprintf(stderr, "use: %s\n", dynofa_error());
        return 1;
    }
    dynofa_model_info info{};
    dynofa_session_info now{};
    info.struct_size = sizeof info;
    now.struct_size = sizeof now;
    dynofa_model_describe(model, &info);
    dynofa_session_describe(session, &now);
    std::vector<float> image(now.image_floats), logits(info.classes);
    dynofa_status status =
        dynofa_session_run(session, image.data(), image.size(), logits.data(), logits.size());
    std::printf("native/%s, level %d: %s, first logit %.4f\n", now.isa, static_cast<int>(now.level),
                dynofa_status_name(status), static_cast<double>(logits[0]));
    dynofa_session_free(&session);
    dynofa_model_free(&model);
    return status;
}
