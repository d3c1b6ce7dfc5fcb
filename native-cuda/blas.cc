#include "blas.h"

#include <stdexcept>
#include <string>

#include "driver.h"
#include "library.h"

// The part of cuBLASLt's C interface that is used (cublasLt.h of CUDA 12 and 13).
namespace {
using Handle = void *;
constexpr int COMPUTE_32F = 68;
constexpr int TYPE_32F = 0, TYPE_16F = 2, TYPE_16BF = 14;
constexpr int DESC_TRANSA = 3;
constexpr int PREFERENCE_WORKSPACE = 1;
constexpr int OPERATION_T = 1;
constexpr size_t WORKSPACE = 64 << 20;

struct Heuristic {
  uint64_t algorithm[8];
  size_t workspace;
  int status;
  float waves;
  int reserved[4];
};

struct Library {
  int (*create)(Handle *);
  int (*descCreate)(Handle *, int, int);
  int (*descSet)(Handle, int, const void *, size_t);
  int (*descDestroy)(Handle);
  int (*layoutCreate)(Handle *, int, uint64_t, uint64_t, int64_t);
  int (*layoutDestroy)(Handle);
  int (*preferenceCreate)(Handle *);
  int (*preferenceSet)(Handle, int, const void *, size_t);
  int (*preferenceDestroy)(Handle);
  int (*heuristic)(Handle, Handle, Handle, Handle, Handle, Handle, Handle, int, Heuristic *, int *);
  int (*matmul)(Handle, Handle, const void *, const void *, Handle, const void *, Handle, const void *, const void *,
                Handle, void *, Handle, const void *, void *, size_t, CUstream);
  size_t (*version)();
};

const Library *library() {
  static Library table{};
  static const bool whole = openLibrary({"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}, table, [](Library &table, auto load) {
    load(table.create, "cublasLtCreate");
    load(table.descCreate, "cublasLtMatmulDescCreate");
    load(table.descSet, "cublasLtMatmulDescSetAttribute");
    load(table.descDestroy, "cublasLtMatmulDescDestroy");
    load(table.layoutCreate, "cublasLtMatrixLayoutCreate");
    load(table.layoutDestroy, "cublasLtMatrixLayoutDestroy");
    load(table.preferenceCreate, "cublasLtMatmulPreferenceCreate");
    load(table.preferenceSet, "cublasLtMatmulPreferenceSetAttribute");
    load(table.preferenceDestroy, "cublasLtMatmulPreferenceDestroy");
    load(table.heuristic, "cublasLtMatmulAlgoGetHeuristic");
    load(table.matmul, "cublasLtMatmul");
    load(table.version, "cublasLtGetVersion");
  });
  return whole ? &table : nullptr;
}

void check(int status, const char *call) {
  if (status != 0) throw std::runtime_error(std::string("cuBLASLt: ") + call + " answers status " + std::to_string(status));
}

int typeOf(int element) {
  switch (element) {
    case 0: return TYPE_32F;
    case 1: return TYPE_16F;
    case 2: return TYPE_16BF;
    default: throw std::runtime_error("cuBLASLt: element type " + std::to_string(element) + " is not a float");
  }
}

Handle handle() {
  static Handle made = [] {
    if (!library()) throw std::runtime_error("cuBLASLt is not installed: libcublasLt.so.13 or .12 was not found");
    Handle value;
    check(library()->create(&value), "cublasLtCreate");
    return value;
  }();
  return made;
}

// One workspace for all products: they run one after the other.
CUdeviceptr workspace() {
  static CUdeviceptr memory = [] {
    CUdeviceptr address;
    CHECK(driver().cuMemAlloc(&address, WORKSPACE));
    return address;
  }();
  return memory;
}
}  // namespace

size_t blasVersion() { return library() ? library()->version() : 0; }

struct Product::State {
  ProductShape shape;
  Handle desc = nullptr, w = nullptr, a = nullptr, out = nullptr;
  Heuristic best{};
};

// Row-major out[m, n] = a[m, k] w[n, k]^T is column-major out^T = w a^T, w transposed.
Product::Product(const ProductShape &shape) : state_(std::make_unique<State>()) {
  Handle lt = handle();
  const Library &api = *library();
  State &s = *state_;
  s.shape = shape;
  check(api.descCreate(&s.desc, COMPUTE_32F, TYPE_32F), "cublasLtMatmulDescCreate");
  int transpose = OPERATION_T;
  check(api.descSet(s.desc, DESC_TRANSA, &transpose, sizeof transpose), "cublasLtMatmulDescSetAttribute");
  check(api.layoutCreate(&s.w, typeOf(shape.inType), shape.k, shape.n, shape.k), "cublasLtMatrixLayoutCreate");
  check(api.layoutCreate(&s.a, typeOf(shape.inType), shape.k, shape.m, shape.k), "cublasLtMatrixLayoutCreate");
  check(api.layoutCreate(&s.out, typeOf(shape.outType), shape.n, shape.m, shape.ldc), "cublasLtMatrixLayoutCreate");
  Handle preference;
  check(api.preferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
  size_t bytes = WORKSPACE;
  check(api.preferenceSet(preference, PREFERENCE_WORKSPACE, &bytes, sizeof bytes), "cublasLtMatmulPreferenceSetAttribute");
  int found = 0;
  int status = api.heuristic(lt, s.desc, s.w, s.a, s.out, s.out, preference, 1, &s.best, &found);
  api.preferenceDestroy(preference);
  check(status, "cublasLtMatmulAlgoGetHeuristic");
  if (found == 0) throw std::runtime_error("cuBLASLt has no algorithm for this product");
  workspace();
}

Product::~Product() {
  if (!library()) return;
  for (Handle layout : {state_->w, state_->a, state_->out})
    if (layout) library()->layoutDestroy(layout);
  if (state_->desc) library()->descDestroy(state_->desc);
}

void Product::enqueue(CUstream stream) const {
  const State &s = *state_;
  float alpha = 1, beta = s.shape.add ? 1 : 0;
  void *out = reinterpret_cast<void *>(s.shape.out);
  check(library()->matmul(handle(), s.desc, &alpha, reinterpret_cast<void *>(s.shape.w), s.w,
                          reinterpret_cast<void *>(s.shape.a), s.a, &beta, out, s.out, out, s.out, s.best.algorithm,
                          reinterpret_cast<void *>(workspace()), WORKSPACE, stream),
        "cublasLtMatmul");
}
