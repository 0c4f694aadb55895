/* oneDNN: the steps that peer_onednn.py wrote down, each a primitive with the layouts that it
 * prefers itself, weights reordered once, activations and residual inside the convolution, one
 * stream. */
#include <omp.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>

#include <dnnl.hpp>

#include "worker.h"

using dnnl::memory;
using tag = memory::format_tag;

static dnnl::engine cpu;
static dnnl::stream stream;
static std::vector<std::pair<dnnl::primitive, std::unordered_map<int, memory>>> steps;
static std::unordered_map<int, memory> values;
static std::vector<float> weights;
static const worker_job *job;
static memory result;
static std::vector<memory> kept; /* whose data another value borrows */

static memory::desc desc(const memory::dims &dims, tag layout) {
    return {dims, memory::data_type::f32, layout};
}

static void step(const dnnl::primitive &primitive, std::unordered_map<int, memory> arguments) {
    steps.emplace_back(primitive, std::move(arguments));
}

/* A value in another layout: for weights now, for what is computed in every run. */
static memory reordered(memory from, const memory::desc &to, bool now) {
    if (from.get_desc() == to)
        return from;
    memory out(to, cpu);
    dnnl::reorder reorder(from, out);
    if (now) {
        reorder.execute(stream, from, out);
        stream.wait();
    } else {
        step(reorder, {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, out}});
    }
    return out;
}

static memory weight(const memory::dims &dims, tag layout, long offset) {
    return {desc(dims, layout), cpu, weights.data() + offset};
}

static dnnl::primitive_attr fused(int activation, bool residual) {
    dnnl::post_ops ops;
    if (residual)
        ops.append_sum(1);
    if (activation == 1)
        ops.append_eltwise(dnnl::algorithm::eltwise_relu, 0, 0);
    else if (activation == 2)
        ops.append_eltwise(dnnl::algorithm::eltwise_hardswish, 1.0f / 6, 0.5f);
    else if (activation == 3)
        ops.append_eltwise(dnnl::algorithm::eltwise_hardsigmoid, 1.0f / 6, 0.5f);
    dnnl::primitive_attr attr;
    attr.set_post_ops(ops);
    return attr;
}

/* The residual is read from where the sum goes. */
static void conv(std::istream &in) {
    long x, y, channels, kernel, stride, groups, w, b, activation, residual;
    in >> x >> y >> channels >> kernel >> stride >> groups >> w >> b >> activation >> residual;
    memory source = values.at((int)x);
    memory::dims s = source.get_desc().get_dims(), edge = {kernel / 2, kernel / 2};
    memory::dims d = {1, channels, (s[2] + stride - 1) / stride, (s[3] + stride - 1) / stride};
    memory::dims k = {channels, s[1] / groups, kernel, kernel};
    tag plain = tag::oihw;
    if (groups > 1) {
        k = {groups, 1, 1, kernel, kernel};
        plain = tag::goihw;
    }
    memory::desc bias = b >= 0 ? desc({channels}, tag::x) : memory::desc();
    memory::desc to = residual >= 0 ? values.at((int)residual).get_desc() : desc(d, tag::any);
    dnnl::convolution_forward::primitive_desc p(
        cpu, dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
        x == 0 ? source.get_desc() : desc(s, tag::any), desc(k, tag::any), bias, to,
        {stride, stride}, edge, edge, fused((int)activation, residual >= 0));
    source = reordered(source, p.src_desc(), false);
    values[(int)y] = residual >= 0 ? values.at((int)residual) : memory(p.dst_desc(), cpu);
    std::unordered_map<int, memory> arguments = {
        {DNNL_ARG_SRC, source},
        {DNNL_ARG_WEIGHTS, reordered(weight(k, plain, w), p.weights_desc(), true)},
        {DNNL_ARG_DST, values[(int)y]}};
    if (b >= 0)
        arguments[DNNL_ARG_BIAS] = weight({channels}, tag::x, b);
    step(dnnl::convolution_forward(p), arguments);
}

static void dense(std::istream &in) {
    long x, y, channels, w, b, activation;
    in >> x >> y >> channels >> w >> b >> activation;
    memory source = values.at((int)x);
    memory::dims k = {channels, source.get_desc().get_dims()[1]};
    memory::desc bias = b >= 0 ? desc({channels}, tag::x) : memory::desc();
    dnnl::inner_product_forward::primitive_desc p(
        cpu, dnnl::prop_kind::forward_inference, source.get_desc(), desc(k, tag::any), bias,
        desc({1, channels}, tag::nc), fused((int)activation, false));
    values[(int)y] = memory(p.dst_desc(), cpu);
    std::unordered_map<int, memory> arguments = {
        {DNNL_ARG_SRC, source},
        {DNNL_ARG_WEIGHTS, reordered(weight(k, tag::oi, w), p.weights_desc(), true)},
        {DNNL_ARG_DST, values[(int)y]}};
    if (b >= 0)
        arguments[DNNL_ARG_BIAS] = weight({channels}, tag::x, b);
    step(dnnl::inner_product_forward(p), arguments);
}

/* The mean goes to a plain vector, which dense takes as it is. */
static void pool(std::istream &in) {
    int x, y;
    in >> x >> y;
    memory source = values.at(x);
    memory::dims s = source.get_desc().get_dims();
    dnnl::pooling_forward::primitive_desc p(cpu, dnnl::prop_kind::forward_inference,
                                            dnnl::algorithm::pooling_avg_exclude_padding,
                                            source.get_desc(), desc({1, s[1], 1, 1}, tag::any),
                                            {1, 1}, {s[2], s[3]}, {0, 0}, {0, 0}, {0, 0});
    memory mean(p.dst_desc(), cpu);
    step(dnnl::pooling_forward(p), {{DNNL_ARG_SRC, source}, {DNNL_ARG_DST, mean}});
    memory plain = reordered(mean, desc({1, s[1], 1, 1}, tag::nchw), false);
    values[y] = memory(desc({1, s[1]}, tag::nc), cpu, plain.get_data_handle());
    kept.push_back(plain);
}

static void mul(std::istream &in) {
    int x, gate, y;
    in >> x >> gate >> y;
    memory source = values.at(x), factor = values.at(gate);
    memory::dims s = source.get_desc().get_dims();
    memory::desc spread = desc({1, s[1], 1, 1}, tag::nchw);
    dnnl::binary::primitive_desc p(cpu, dnnl::algorithm::binary_mul, source.get_desc(), spread,
                                   source.get_desc());
    values[y] = source; /* in place: nobody else reads it */
    step(dnnl::binary(p), {{DNNL_ARG_SRC_0, source},
                           {DNNL_ARG_SRC_1, memory(spread, cpu, factor.get_data_handle())},
                           {DNNL_ARG_DST, source}});
}

void engine_load(const struct worker_job *j) try {
    job = j;
    omp_set_num_threads(j->threads);
    cpu = dnnl::engine(dnnl::engine::kind::cpu, 0);
    stream = dnnl::stream(cpu);
    std::ifstream text(j->model), data(std::string(j->model) + ".bin", std::ios::binary);
    data.seekg(0, std::ios::end);
    weights.resize((size_t)data.tellg() / sizeof(float));
    data.seekg(0);
    data.read((char *)weights.data(), (std::streamsize)(weights.size() * sizeof(float)));
    if (!text || !data)
        worker_fail("%s: cannot be read", j->model);
    values[0] = memory(desc({1, 3, j->side, j->side}, tag::nchw), cpu, (void *)j->image);
    std::string line, what;
    while (std::getline(text, line)) {
        std::istringstream in(line);
        in >> what;
        if (what == "conv")
            conv(in);
        else if (what == "dense")
            dense(in);
        else if (what == "pool")
            pool(in);
        else if (what == "mul")
            mul(in);
        if (!in)
            worker_fail("%s: \"%s\" is no step", j->model, line.c_str());
    }
    result = steps.back().second.at(DNNL_ARG_DST);
    if (result.get_desc().get_size() != j->classes * sizeof(float))
        worker_fail("%s: ends in %zu bytes, expected %zu classes", j->model,
                    result.get_desc().get_size(), j->classes);
} catch (const dnnl::error &e) {
    worker_fail("oneDNN: %s", e.what());
}

const char *engine_version(void) {
    static char text[32];
    const dnnl::version_t *v = dnnl::version();
    snprintf(text, sizeof text, "%d.%d.%d", v->major, v->minor, v->patch);
    return text;
}

void engine_run(void) try {
    for (const auto &s : steps)
        s.first.execute(stream, s.second);
    stream.wait();
    memcpy(job->logits, result.get_data_handle(), job->classes * sizeof(float));
} catch (const dnnl::error &e) {
    worker_fail("oneDNN: %s", e.what());
}
