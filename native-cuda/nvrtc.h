// CUDA C++ to machine code at run time, by NVRTC where it is installed.
#pragma once
#include <napi.h>

// (source, name, headers: {name: text}, options) -> Promise<cubin>; runs on a thread of the pool.
Napi::Value compileSource(const Napi::CallbackInfo &info);
// 13000 = 13.0; 0 when it is not installed.
int nvrtcVersion();
