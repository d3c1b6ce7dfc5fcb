// Exports of the addon, as src/engine/device/cuda/native.ts describes them.
#include <napi.h>

#include "blas.h"
#include "device.h"
#include "nvrtc.h"
#include "program.h"

// prebuilt.S: the archive of prebuilt modules.
extern "C" const unsigned char nanoflow_prebuilt_begin[], nanoflow_prebuilt_end[];

static Napi::Value probe(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  Napi::Object result = Napi::Object::New(env);
  Napi::Array devices = Napi::Array::New(env);
  result.Set("devices", devices);
  try {
    int version, count;
    const Driver &d = driver();
    CHECK(d.cuDriverGetVersion(&version));
    result.Set("driver", version);
    if (int nvrtc = nvrtcVersion()) result.Set("nvrtc", nvrtc);
    if (size_t blas = blasVersion()) result.Set("cublasLt", static_cast<double>(blas));
    CHECK(d.cuDeviceGetCount(&count));
    for (int i = 0; i < count; i++) devices.Set(static_cast<uint32_t>(i), deviceInfo(env, i));
    if (count == 0) result.Set("problem", "the driver lists no GPU");
  } catch (const CudaError &error) {
    result.Set("problem", error.what());
  }
  return result;
}

static Napi::Value prebuilt(const Napi::CallbackInfo &info) {
  size_t bytes = nanoflow_prebuilt_end - nanoflow_prebuilt_begin;
  auto result = Napi::Uint8Array::New(info.Env(), bytes);
  std::copy(nanoflow_prebuilt_begin, nanoflow_prebuilt_end, result.Data());
  return result;
}

static Napi::Object start(Napi::Env env, Napi::Object exports) {
  auto *classes = new Classes;
  classes->program = Napi::Persistent(Program::define(env));
  env.SetInstanceData(classes);
  exports.Set("probe", Napi::Function::New(env, probe));
  exports.Set("prebuilt", Napi::Function::New(env, prebuilt));
  exports.Set("compile", Napi::Function::New(env, compileSource));
  exports.Set("Device", Device::define(env));
  return exports;
}

NODE_API_MODULE(nanoflow_cuda, start)
