// Weights from files to device memory through pinned buffers.
#pragma once
#include <napi.h>

#include <string>
#include <vector>

#include "driver.h"

struct FilePart {
  CUdeviceptr to;
  uint64_t offset, bytes;
};

// Reads and copies on threads of its own; the promise resolves when all bytes are on the device.
Napi::Value loadParts(Napi::Env env, CUcontext context, std::string path, std::vector<FilePart> parts,
                      Napi::Function progress);
