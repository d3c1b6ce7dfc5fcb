#include "driver.h"

#include <dlfcn.h>

#include <cstring>

#define TEXT_OF(name) #name
#define NAME(name) TEXT_OF(name)

static Driver open() {
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
  if (!library) {
    throw CudaError("no NVIDIA driver: libcuda.so.1 was not found; install the driver, or use another device", false);
  }
  Driver table;
#define LOAD(name) table.name = reinterpret_cast<decltype(table.name)>(dlsym(library, NAME(name)));
  CUDA_FUNCTIONS(LOAD)
  CUDA_OPTIONAL_FUNCTIONS(LOAD)
#undef LOAD
#define REQUIRE(name) \
  if (!table.name) throw CudaError("the NVIDIA driver has no " NAME(name) "; it is older than CUDA 12, update it", false);
  CUDA_FUNCTIONS(REQUIRE)
#undef REQUIRE
  return table;
}

static const Driver &table() {
  static const Driver opened = open();
  return opened;
}

const Driver &driver() {
  static const bool ready = [] {
    CUresult result = table().cuInit(0);
    if (result != CUDA_SUCCESS) throwCuda(result, "cuInit(0)", __FILE__, __LINE__);
    return true;
  }();
  (void)ready;
  return table();
}

// Errors after which the context cannot be used.
static bool isSticky(CUresult result) {
  switch (result) {
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_LAUNCH_FAILED:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_CONTEXT_IS_DESTROYED:
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
    case CUDA_ERROR_UNKNOWN:
      return true;
    default:
      return false;
  }
}

void throwCuda(CUresult result, const char *call, const char *file, int line) {
  const char *name = nullptr, *text = nullptr;
  table().cuGetErrorName(result, &name);
  table().cuGetErrorString(result, &text);
  const char *slash = strrchr(file, '/');
  // The call without its arguments: they hold nothing that helps a reader.
  std::string what(call);
  what = what.substr(0, what.find('(', what.find("cu")));
  what = what.substr(what.find("cu") == std::string::npos ? 0 : what.rfind("cu"));
  throw CudaError(std::string(name ? name : "CUDA error") + " (" + std::to_string(result) + "): " +
                      (text ? text : "no text") + ", in " + what + " at " + (slash ? slash + 1 : file) + ":" +
                      std::to_string(line),
                  isSticky(result));
}
