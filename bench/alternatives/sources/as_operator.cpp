// way_back.hpp as an operator of ONNX Runtime, lstm_explain.bench::WayBack, by its C API (since version 1.16).
#include <onnxruntime_c_api.h>

#include "way_back.hpp"

using namespace way_back;

enum Inputs { X, PRE, OLD, FRESH, HIDDEN, H0, LENS, ORDER, BIAS, R, W, SCALARS, R_Y, R_H, R_C, INPUTS };
enum Outputs { R_X, R_H0, R_C0, LOST, OUTPUTS };
static const OrtApi* api;

struct Tensor {
    char* data;
    Int shape[3] = {0, 0, 0};
    template <typename T> T* as() const { return reinterpret_cast<T*>(data); }
};

static OrtStatus* read(OrtKernelContext* context, size_t index, Tensor* tensor) {
    const OrtValue* value;
    OrtTensorTypeAndShapeInfo* info;
    size_t rank;
    if (OrtStatus* failed = api->KernelContext_GetInput(context, index, &value)) return failed;
    if (OrtStatus* failed = api->GetTensorMutableData(const_cast<OrtValue*>(value), (void**)&tensor->data)) return failed;
    if (OrtStatus* failed = api->GetTensorTypeAndShape(value, &info)) return failed;
    OrtStatus* failed = api->GetDimensionsCount(info, &rank);
    if (!failed) failed = api->GetDimensions(info, tensor->shape, std::min<size_t>(rank, 3));
    api->ReleaseTensorTypeAndShapeInfo(info);
    return failed;
}

static OrtStatus* compute(void*, OrtKernelContext* context) {
    Tensor in[INPUTS];
    for (size_t i = 0; i < INPUTS; i++)
        if (OrtStatus* failed = read(context, i, &in[i])) return failed;
    void* out[OUTPUTS];
    const Int* shape = in[X].shape;
    const Int state[] = {shape[1], in[HIDDEN].shape[2]};
    const Int* shapes[] = {shape, state, state, shape + 1};
    const size_t ranks[] = {3, 2, 2, 1};
    for (size_t i = 0; i < OUTPUTS; i++) {
        OrtValue* value;
        if (OrtStatus* failed = api->KernelContext_GetOutput(context, i, shapes[i], ranks[i], &value)) return failed;
        if (OrtStatus* failed = api->GetTensorMutableData(value, &out[i])) return failed;
    }
    std::memcpy(out[R_H0], in[R_H].data, state[0] * state[1] * sizeof(float));
    std::memcpy(out[R_C0], in[R_C].data, state[0] * state[1] * sizeof(float));
    std::memset(out[LOST], 0, state[0] * sizeof(double));
    const float* scalars = in[SCALARS].as<float>();  // eps, delta, unit, whether reverse
    const Way<float> way{shape[1], in[ORDER].shape[0], shape[0], shape[2], state[1],
                         in[X].as<float>(), in[HIDDEN].as<float>(), in[H0].as<float>(), in[LENS].as<Int>(),
                         in[ORDER].as<Int>(), scalars[3] != 0, in[BIAS].as<float>(),
                         {in[R].as<float>(), in[R].shape[0], in[R].shape[1]},
                         {in[W].as<float>(), in[W].shape[0], in[W].shape[1]},
                         scalars[0], scalars[1], scalars[2], in[R_Y].shape[0] ? in[R_Y].as<float>() : nullptr,
                         (float*)out[R_H0], (float*)out[R_C0], (float*)out[R_X], (double*)out[LOST]};
    relevance_all(way, in[PRE].as<float>(), in[OLD].as<float>(), in[FRESH].as<float>());
    return nullptr;
}

static OrtCustomOp description() {
    OrtCustomOp op{};
    op.version = 16;
    op.GetName = [](const OrtCustomOp*) { return "WayBack"; };
    op.GetExecutionProviderType = [](const OrtCustomOp*) { return "CPUExecutionProvider"; };
    op.GetInputTypeCount = [](const OrtCustomOp*) { return size_t(INPUTS); };
    op.GetOutputTypeCount = [](const OrtCustomOp*) { return size_t(OUTPUTS); };
    op.GetInputType = [](const OrtCustomOp*, size_t i) {
        return i == LENS || i == ORDER ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    };
    op.GetOutputType = [](const OrtCustomOp*, size_t i) {
        return i == LOST ? ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    };
    op.GetInputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
    op.GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
    op.GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
    op.CreateKernelV2 = [](const OrtCustomOp*, const OrtApi* of_runtime, const OrtKernelInfo*, void** kernel) {
        api = of_runtime, *kernel = nullptr;
        return (OrtStatusPtr) nullptr;
    };
    op.KernelComputeV2 = compute;
    op.KernelDestroy = [](void*) {};
    op.GetStartVersion = [](const OrtCustomOp*) { return 1; };
    op.GetEndVersion = [](const OrtCustomOp*) { return 1; };
    return op;
}

extern "C" OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
    static const OrtCustomOp op = description();
    static OrtCustomOpDomain* domain = nullptr;
    api = base->GetApi(16);
    if (!domain) {
        if (OrtStatus* failed = api->CreateCustomOpDomain("lstm_explain.bench", &domain)) return failed;
        if (OrtStatus* failed = api->CustomOpDomain_Add(domain, &op)) return failed;
    }
    return api->AddCustomOpDomain(options, domain);
}
