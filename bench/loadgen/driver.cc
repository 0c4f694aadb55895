// driver: MLPerf's LoadGen asks a back-end of the MLPerf Mobile app, as that app does. Between
// LoadGen's query and the engine's run there is C alone.
//
//   driver LIBRARY BUNDLE IMAGES [--scenario NAME] [--level N] [--threads N] [--seconds S] [--qps
//   Q] [--bound-ms B]
//          [--samples N] [--labels FILE] [--out FOLDER]
//   driver --min-queries PERCENTILE MOST      what LoadGen's early stopping asks for with 0 to MOST
//   slower queries
//
// IMAGES and LABELS are IDX files. With labels LoadGen asks for every image once and the exit
// status says whether it could; the line "right" says how many were classified as labelled.
#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "early_stopping.h"
#include "loadgen.h"
#include "query_sample.h"
#include "query_sample_library.h"
#include "system_under_test.h"
#include "test_settings.h"

extern "C" {
#include "backend.h"
}

namespace {

[[noreturn]] void fail(const std::string &sentence) {
    fprintf(stderr, "driver: %s\n", sentence.c_str());
    exit(2);
}

// A number of the command line.
double number(const std::string &name, const std::string &text, double least, double most) {
    char *end;
    double v = strtod(text.c_str(), &end);
    if (text.empty() || *end != '\0' || !(v >= least && v <= most))
        fail(name + " is \"" + text + "\", expected a number of " + std::to_string(least) + " to " +
             std::to_string(most));
    return v;
}

// The functions that the app looks up.
struct library {
    decltype(&mlperf_backend_create) create;
    decltype(&mlperf_backend_delete) remove;
    decltype(&mlperf_backend_accelerator_name) accelerator;
    decltype(&mlperf_backend_get_input_type) input_type;
    decltype(&mlperf_backend_get_output_type) output_type;
    decltype(&mlperf_backend_set_input) set_input;
    decltype(&mlperf_backend_issue_query) issue_query;
    decltype(&mlperf_backend_flush_queries) flush_queries;
    decltype(&mlperf_backend_get_output) get_output;

    explicit library(const std::string &path) {
        void *handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (handle == nullptr)
            fail(dlerror());
        look_up(handle, "create", &create);
        look_up(handle, "delete", &remove);
        look_up(handle, "accelerator_name", &accelerator);
        look_up(handle, "get_input_type", &input_type);
        look_up(handle, "get_output_type", &output_type);
        look_up(handle, "set_input", &set_input);
        look_up(handle, "issue_query", &issue_query);
        look_up(handle, "flush_queries", &flush_queries);
        look_up(handle, "get_output", &get_output);
    }

    template <typename F> static void look_up(void *handle, const char *name, F *function) {
        std::string symbol = std::string("mlperf_backend_") + name;
        void *found = dlsym(handle, symbol.c_str());
        if (found == nullptr)
            fail("the library has no " + symbol);
        memcpy(function, &found, sizeof found);
    }
};

// The bytes of an IDX file after its head, which has to announce as many.
std::vector<unsigned char> idx(const std::string &path, size_t dimensions, size_t *count) {
    std::ifstream file(path, std::ios::binary);
    std::vector<unsigned char> all{std::istreambuf_iterator<char>(file),
                                   std::istreambuf_iterator<char>()};
    size_t head = 4 + 4 * dimensions, size = 1;
    if (all.size() < head || all[2] != 8 || all[3] != dimensions)
        fail(path + " is no IDX file of bytes with " + std::to_string(dimensions) + " dimensions");
    for (size_t d = 0; d < dimensions; d++) {
        const unsigned char *b = &all[4 + 4 * d];
        size_t n = (size_t)b[0] << 24 | (size_t)b[1] << 16 | (size_t)b[2] << 8 | b[3];
        if (n == 0 || n > all.size())
            fail(path + " announces " + std::to_string(n) + " values, expected 1 to its size");
        *count = d == 0 ? n : *count;
        size *= n;
        if (size > all.size())
            fail(path + " is shorter than it announces");
    }
    if (all.size() != head + size)
        fail(path + " has " + std::to_string(all.size() - head) + " bytes, expected " +
             std::to_string(size));
    all.erase(all.begin(), all.begin() + (ptrdiff_t)head);
    return all;
}

// The images, which are all kept in memory.
class images : public mlperf::QuerySampleLibrary {
  public:
    // LoadGen asks for some of the images, which it takes at random.
    images(const std::string &path, size_t floats, size_t some) : floats_(floats), some_(some) {
        std::vector<unsigned char> grey = idx(path, 3, &count_);
        if (grey.size() / count_ * 3 != floats)
            fail(path + " has images of " + std::to_string(grey.size() / count_) +
                 " grey pixels, expected " + std::to_string(floats / 3));
        pixels_.resize(count_ * floats);
        // Mean and deviation of the shipped model's preprocessing, the same for its three channels.
        for (size_t i = 0; i < pixels_.size(); i++)
            pixels_[i] = ((float)grey[i / 3] / 255 - 0.286F) / 0.353F;
    }
    const std::string &Name() override { return name_; }
    size_t TotalSampleCount() override { return count_; }
    size_t PerformanceSampleCount() override { return std::min(count_, some_); }
    void LoadSamplesToRam(const std::vector<mlperf::QuerySampleIndex> &) override {}
    void UnloadSamplesFromRam(const std::vector<mlperf::QuerySampleIndex> &) override {}
    float *at(size_t i) { return &pixels_[i * floats_]; }

  private:
    std::string name_ = "IDX";
    size_t floats_, some_, count_ = 0;
    std::vector<float> pixels_;
};

// Back-ends of one image at a time: one for queries in their order, and for Offline as many as
// there are threads, which take the next image each.
class engine : public mlperf::SystemUnderTest {
  public:
    engine(const library &api, std::vector<mlperf_backend_ptr_t> backends, images *samples,
           std::vector<unsigned char> labels)
        : api_(api), backends_(std::move(backends)), samples_(samples), labels_(std::move(labels)) {
        classes_ = (size_t)api_.output_type(backends_[0], 0).size;
    }
    const std::string &Name() override { return name_; }
    void FlushQueries() override { api_.flush_queries(backends_[0]); }

    void IssueQuery(const std::vector<mlperf::QuerySample> &query) override {
        if (backends_.size() == 1) {
            for (const mlperf::QuerySample &s : query)
                answer(backends_[0], s);
            return;
        }
        std::atomic<size_t> next{0};
        std::vector<std::thread> threads;
        for (mlperf_backend_ptr_t b : backends_)
            threads.emplace_back([&, b] {
                for (size_t i; (i = next++) < query.size();)
                    answer(b, query[i]);
            });
        for (std::thread &t : threads)
            t.join();
    }

    // The classes of an image's logits, which stay the back-end's.
    float *run(mlperf_backend_ptr_t b, size_t image) {
        void *logits = nullptr;
        if (api_.set_input(b, 0, 0, samples_->at(image)) != MLPERF_SUCCESS ||
            api_.issue_query(b) != MLPERF_SUCCESS ||
            api_.get_output(b, 0, 0, &logits) != MLPERF_SUCCESS)
            fail("the back-end failed on image " + std::to_string(image));
        return static_cast<float *>(logits);
    }

    size_t right() const { return right_; }

  private:
    void answer(mlperf_backend_ptr_t b, const mlperf::QuerySample &s) {
        const float *logits = run(b, s.index);
        if (!labels_.empty() &&
            (size_t)(std::max_element(logits, logits + classes_) - logits) == labels_[s.index])
            right_++;
        mlperf::QuerySampleResponse response(s.id, reinterpret_cast<uintptr_t>(logits),
                                             classes_ * sizeof *logits);
        mlperf::QuerySamplesComplete(&response, 1);
    }

    std::string name_ = "dynofa";
    const library &api_;
    std::vector<mlperf_backend_ptr_t> backends_;
    images *samples_;
    std::vector<unsigned char> labels_;
    size_t classes_;
    std::atomic<size_t> right_{0};
};

void min_queries(const std::string &percentile, const std::string &most) {
    mlperf::loadgen::MinPassingQueriesFinder find;
    double p = number("PERCENTILE", percentile, 0.5, 0.9999);
    for (int64_t over = 0; over <= (int64_t)number("MOST", most, 0, 100000); over++)
        printf("%lld\n", (long long)(find(over, p, 0, 0.99) + over));
}

} // namespace

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "--min-queries") == 0) {
        min_queries(argv[2], argv[3]);
        return 0;
    }
    std::map<std::string, std::string> options{
        {"scenario", "singlestream"}, {"level", ""},  {"threads", "1"},
        {"seconds", "600"},           {"qps", "100"}, {"bound-ms", "15"},
        {"samples", "1024"},          {"labels", ""}, {"out", "."}};
    for (int i = 4; i < argc; i += 2)
        if (strncmp(argv[i], "--", 2) != 0 || options.count(argv[i] + 2) == 0 || i + 1 == argc)
            fail(std::string("unknown or lonely option ") + argv[i]);
        else
            options[argv[i] + 2] = argv[i + 1];
    if (argc < 4)
        fail("usage: driver LIBRARY BUNDLE IMAGES [--OPTION VALUE]..., or --min-queries PERCENTILE "
             "MOST");

    static const std::map<std::string, std::pair<mlperf::TestScenario, const char *>> scenarios{
        {"singlestream", {mlperf::TestScenario::SingleStream, "SingleStream"}},
        {"multistream", {mlperf::TestScenario::MultiStream, "MultiStream"}},
        {"server", {mlperf::TestScenario::Server, "Server"}},
        {"offline", {mlperf::TestScenario::Offline, "Offline"}}};
    auto chosen = scenarios.find(options["scenario"]);
    if (chosen == scenarios.end())
        fail("--scenario is \"" + options["scenario"] +
             "\", expected singlestream, multistream, server or offline");
    mlperf::TestScenario scenario = chosen->second.first;
    bool offline = scenario == mlperf::TestScenario::Offline;
    auto threads = (size_t)number("--threads", options["threads"], 1, 1024);

    library api(argv[1]);
    mlperf_backend_configuration_t config{};
    config.batch_size = 1;
    std::string per_session = offline ? "1" : options["threads"];
    config.keys[0] = "threads", config.values[0] = per_session.c_str(), config.count = 1;
    if (!options["level"].empty())
        config.keys[1] = "level", config.values[1] = options["level"].c_str(), config.count = 2;
    std::vector<mlperf_backend_ptr_t> backends(offline ? threads : 1);
    for (mlperf_backend_ptr_t &b : backends)
        if ((b = api.create(argv[2], &config, "")) == nullptr)
            return 2;
    images samples(argv[3], (size_t)api.input_type(backends[0], 0).size,
                   (size_t)number("--samples", options["samples"], 1, 1e6));
    std::vector<unsigned char> labels;
    size_t labelled = 0;
    if (!options["labels"].empty()) {
        labels = idx(options["labels"], 1, &labelled);
        if (labelled != samples.TotalSampleCount())
            fail(options["labels"] + " has " + std::to_string(labelled) + " labels, expected " +
                 std::to_string(samples.TotalSampleCount()));
    }
    engine sut(api, backends, &samples, labels);

    // LoadGen makes all queries before the first, as many as the expected latency says.
    std::vector<double> warm(33);
    for (double &ns : warm) {
        auto start = std::chrono::steady_clock::now();
        sut.run(backends[0], 0);
        ns = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start)
                 .count();
    }
    double fastest = *std::min_element(warm.begin(), warm.end());

    mlperf::TestSettings settings;
    settings.FromConfig("", "dynofa", chosen->second.second, 0); // MLPerf's seeds
    settings.scenario = scenario;
    settings.mode =
        labels.empty() ? mlperf::TestMode::PerformanceOnly : mlperf::TestMode::AccuracyOnly;
    settings.min_duration_ms =
        (uint64_t)(1e3 * number("--seconds", options["seconds"], 0.01, 86400));
    settings.single_stream_expected_latency_ns = fastest / 2;
    settings.multi_stream_expected_latency_ns =
        settings.multi_stream_samples_per_query * fastest / 2;
    settings.server_target_qps = number("--qps", options["qps"], 1e-3, 1e9);
    settings.server_target_latency_ns =
        (uint64_t)(1e6 * number("--bound-ms", options["bound-ms"], 1e-3, 1e6));
    settings.offline_expected_qps = 1.2e9 / fastest * (double)backends.size();
    mlperf::LogSettings logs;
    logs.log_output.outdir = options["out"];
    logs.log_output.copy_summary_to_stdout = true;
    logs.enable_trace = false;

    printf("%s\n", api.accelerator(backends[0]));
    fflush(stdout);
    mlperf::StartTest(&sut, &samples, settings, logs);
    if (!labels.empty())
        printf("right %zu of %zu\n", sut.right(), labelled);
    for (mlperf_backend_ptr_t b : backends)
        api.remove(b);
    return 0;
}
