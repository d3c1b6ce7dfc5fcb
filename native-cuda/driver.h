// The CUDA driver, opened at run time: no part of CUDA is linked, so the addon loads on machines without a GPU and says
// so. Functions are called through the table, `driver().cuMemAlloc(...)`, inside CHECK(...).
#pragma once
#include <cuda.h>

#include <stdexcept>
#include <string>

#define CUDA_FUNCTIONS(F)                                                                                     \
  F(cuInit) F(cuDriverGetVersion) F(cuGetErrorName) F(cuGetErrorString)                                       \
  F(cuDeviceGetCount) F(cuDeviceGet) F(cuDeviceGetName) F(cuDeviceGetUuid) F(cuDeviceGetAttribute)            \
  F(cuDeviceTotalMem) F(cuDevicePrimaryCtxRetain) F(cuDevicePrimaryCtxRelease) F(cuCtxSetCurrent)             \
  F(cuMemGetInfo) F(cuMemAlloc) F(cuMemFree) F(cuMemHostAlloc) F(cuMemFreeHost)                               \
  F(cuMemcpyHtoDAsync) F(cuMemcpyDtoHAsync) F(cuMemsetD8Async)                                                \
  F(cuStreamCreateWithPriority) F(cuStreamDestroy) F(cuStreamSynchronize) F(cuStreamWaitEvent)                \
  F(cuEventCreate) F(cuEventRecord) F(cuEventSynchronize) F(cuEventElapsedTime) F(cuEventDestroy)             \
  F(cuModuleLoadData) F(cuModuleGetFunction) F(cuModuleUnload) F(cuFuncSetAttribute) F(cuFuncGetAttribute)    \
  F(cuLaunchKernelEx) F(cuTensorMapEncodeTiled)                                                               \
  F(cuStreamBeginCapture) F(cuStreamEndCapture) F(cuGraphInstantiateWithFlags) F(cuGraphLaunch)               \
  F(cuGraphUpload) F(cuGraphDestroy) F(cuGraphExecDestroy)

// Only in newer drivers; null where they are missing.
#define CUDA_OPTIONAL_FUNCTIONS(F)                                                                            \
  F(cuDeviceGetDevResource) F(cuDevSmResourceSplitByCount) F(cuDevResourceGenerateDesc) F(cuGreenCtxCreate)   \
  F(cuGreenCtxDestroy) F(cuGreenCtxStreamCreate) F(cuFuncGetParamInfo)

struct Driver {
#define DECLARE(name) decltype(&::name) name = nullptr;
  CUDA_FUNCTIONS(DECLARE)
  CUDA_OPTIONAL_FUNCTIONS(DECLARE)
#undef DECLARE
};

// Failure of a CUDA call. `sticky`: the context is gone, and every later call fails too.
struct CudaError : std::runtime_error {
  CudaError(const std::string &text, bool sticky) : std::runtime_error(text), sticky(sticky) {}
  bool sticky;
};

// The driver, opened and initialised once. Throws CudaError when there is none.
const Driver &driver();

[[noreturn]] void throwCuda(CUresult result, const char *call, const char *file, int line);

#define CHECK(call)                                                        \
  do {                                                                     \
    CUresult result_ = (call);                                             \
    if (result_ != CUDA_SUCCESS) throwCuda(result_, #call, __FILE__, __LINE__); \
  } while (0)
