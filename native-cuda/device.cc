#include "device.h"

#include <algorithm>
#include <cstring>

#include "files.h"
#include "program.h"

Napi::Error toError(Napi::Env env, const CudaError &error) {
  Napi::Error made = Napi::Error::New(env, error.what());
  made.Set("sticky", Napi::Boolean::New(env, error.sticky));
  return made;
}

static int attribute(CUdevice device, CUdevice_attribute name) {
  int value;
  CHECK(driver().cuDeviceGetAttribute(&value, name, device));
  return value;
}

Napi::Object deviceInfo(Napi::Env env, int ordinal) {
  CUdevice device;
  CHECK(driver().cuDeviceGet(&device, ordinal));
  char name[256] = {};
  CHECK(driver().cuDeviceGetName(name, sizeof name - 1, device));
  CUuuid uuid;
  CHECK(driver().cuDeviceGetUuid(&uuid, device));
  char text[33] = {};
  for (int i = 0; i < 16; i++) snprintf(text + 2 * i, 3, "%02x", static_cast<unsigned char>(uuid.bytes[i]));
  size_t bytes;
  CHECK(driver().cuDeviceTotalMem(&bytes, device));
  Napi::Object info = Napi::Object::New(env);
  info.Set("ordinal", ordinal);
  info.Set("name", name);
  info.Set("uuid", text);
  info.Set("computeCapability", 10 * attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) +
                                    attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR));
  info.Set("multiprocessors", attribute(device, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT));
  info.Set("sharedBytesPerCta", attribute(device, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN));
  info.Set("l2Bytes", attribute(device, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE));
  info.Set("memoryBytes", static_cast<double>(bytes));
  return info;
}

Napi::Function Device::define(Napi::Env env) {
  return DefineClass(env, "Device",
                     {
                         InstanceAccessor<&Device::info>("info"),
                         InstanceMethod<&Device::memory>("memory"),
                         InstanceMethod<&Device::allocate>("allocate"),
                         InstanceMethod<&Device::free>("free"),
                         InstanceMethod<&Device::loadKernel>("loadKernel"),
                         InstanceMethod<&Device::createProgram>("createProgram"),
                         InstanceMethod<&Device::execute>("execute"),
                         InstanceMethod<&Device::write>("write"),
                         InstanceMethod<&Device::read>("read"),
                         InstanceMethod<&Device::idle>("idle"),
                         InstanceMethod<&Device::profile>("profile"),
                         InstanceMethod<&Device::loadFile>("loadFile"),
                         InstanceMethod<&Device::destroy>("destroy"),
                     });
}

Device::Device(const Napi::CallbackInfo &info) : Napi::ObjectWrap<Device>(info) {
  guarded(info.Env(), [&] {
    ordinal_ = info[0].As<Napi::Number>().Int32Value();
    CHECK(driver().cuDeviceGet(&device_, ordinal_));
    CHECK(driver().cuDevicePrimaryCtxRetain(&context_, device_));
    makeCurrent();
    CHECK(driver().cuStreamCreateWithPriority(&stream_, CU_STREAM_NON_BLOCKING, 0));
    lanes_[{0, 0}] = stream_;
    waiter_ = std::make_unique<Waiter>(info.Env(), context_);
  });
}

Device::~Device() { close(); }

void Device::close() {
  if (!context_) return;
  driver().cuCtxSetCurrent(context_);
  driver().cuStreamSynchronize(stream_);
  waiter_->destroy();
  staging_.destroy();
  for (auto &[key, stream] : lanes_) driver().cuStreamDestroy(stream);
  for (CUgreenCtx green : greens_) driver().cuGreenCtxDestroy(green);
  for (LaneMemory &memory : laneMemory_) {
    if (memory.counters) driver().cuMemFree(memory.counters);
    if (memory.scratch) driver().cuMemFree(memory.scratch);
  }
  for (PinnedBlock &block : pinned_) driver().cuMemFreeHost(block.data);
  pinned_.clear();
  for (CUdeviceptr address : retired_) driver().cuMemFree(address);
  for (Kernel &kernel : kernels_) driver().cuModuleUnload(kernel.module);
  driver().cuDevicePrimaryCtxRelease(device_);
  context_ = nullptr;
}

void Device::makeCurrent() {
  if (!context_) throw CudaError("the device was destroyed", false);
  CHECK(driver().cuCtxSetCurrent(context_));
}

Kernel &Device::kernel(size_t handle) {
  if (handle >= kernels_.size()) throw CudaError("kernel handle " + std::to_string(handle) + " is not loaded", false);
  return kernels_[handle];
}

CUstream Device::laneStream(size_t lane, int multiprocessors) {
  auto found = lanes_.find({lane, multiprocessors});
  if (found != lanes_.end()) return found->second;
  CUstream stream;
  if (multiprocessors == 0) {
    CHECK(driver().cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, 0));
  } else {
    const Driver &d = driver();
    if (!d.cuGreenCtxStreamCreate) throw CudaError("this driver has no green contexts; it is older than CUDA 12.5", false);
    // One split for both: the side lane's SMs are counted, lane 0 has the rest. Not in clusters of neighbours: spread over
    // the GPU, the side lane's SMs share the ways to L2 with fewer of their kind.
    CUdevResource all{};
    CHECK(d.cuDeviceGetDevResource(device_, &all, CU_DEV_RESOURCE_TYPE_SM));
    int total = all.sm.smCount;
    unsigned groups = 1;
    CUdevResource first{}, rest{};
    CHECK(d.cuDevSmResourceSplitByCount(&first, &groups, &all, &rest, CU_DEV_SM_RESOURCE_SPLIT_IGNORE_SM_COSCHEDULING,
                                        total - multiprocessors));
    CUdevResource mine = lane == 0 ? rest : first;
    CUdevResourceDesc desc;
    CHECK(d.cuDevResourceGenerateDesc(&desc, &mine, 1));
    CUgreenCtx green;
    CHECK(d.cuGreenCtxCreate(&green, desc, device_, CU_GREEN_CTX_DEFAULT_STREAM));
    greens_.push_back(green);
    CHECK(d.cuGreenCtxStreamCreate(&stream, green, CU_STREAM_NON_BLOCKING, 0));
  }
  lanes_[{lane, multiprocessors}] = stream;
  return stream;
}

// Programs that were captured with smaller memory keep it, so it is retired and not freed.
LaneMemory &Device::laneMemory(size_t lane, size_t counterBytes, size_t scratchBytes) {
  if (laneMemory_.size() <= lane) laneMemory_.resize(lane + 1);
  LaneMemory &memory = laneMemory_[lane];
  if (memory.counterBytes < counterBytes) {
    if (memory.counters) retired_.push_back(memory.counters);
    CHECK(driver().cuMemAlloc(&memory.counters, counterBytes));
    CHECK(driver().cuMemsetD8Async(memory.counters, 0, counterBytes, stream_));
    memory.counterBytes = counterBytes;
  }
  if (memory.scratchBytes < scratchBytes) {
    if (memory.scratch) retired_.push_back(memory.scratch);
    CHECK(driver().cuMemAlloc(&memory.scratch, scratchBytes));
    memory.scratchBytes = scratchBytes;
  }
  return memory;
}

Napi::Value Device::info(const Napi::CallbackInfo &info) {
  return guarded(info.Env(), [&] { return deviceInfo(info.Env(), ordinal_); });
}

Napi::Value Device::memory(const Napi::CallbackInfo &info) {
  return guarded(info.Env(), [&] {
    makeCurrent();
    size_t free, total;
    CHECK(driver().cuMemGetInfo(&free, &total));
    Napi::Object result = Napi::Object::New(info.Env());
    result.Set("free", static_cast<double>(free));
    result.Set("total", static_cast<double>(total));
    return result;
  });
}

Napi::Value Device::allocate(const Napi::CallbackInfo &info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    makeCurrent();
    size_t bytes = static_cast<size_t>(info[0].As<Napi::Number>().Int64Value());
    CUdeviceptr address;
    CHECK(driver().cuMemAlloc(&address, bytes > 0 ? bytes : 16));
    CHECK(driver().cuMemsetD8Async(address, 0, bytes > 0 ? bytes : 16, stream_));
    return Napi::Number::New(info.Env(), static_cast<double>(address));
  });
}

Napi::Value Device::free(const Napi::CallbackInfo &info) {
  return guarded(info.Env(), [&] {
    if (context_) {
      makeCurrent();
      CHECK(driver().cuMemFree(static_cast<CUdeviceptr>(info[0].As<Napi::Number>().Int64Value())));
    }
    return info.Env().Undefined();
  });
}

Napi::Value Device::loadKernel(const Napi::CallbackInfo &info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    makeCurrent();
    auto image = info[0].As<Napi::Uint8Array>();
    std::string entry = info[1].As<Napi::String>();
    Kernel kernel;
    kernel.entry = entry;
    CHECK(driver().cuModuleLoadData(&kernel.module, image.Data()));
    CUresult found = driver().cuModuleGetFunction(&kernel.function, kernel.module, entry.c_str());
    if (found != CUDA_SUCCESS) {
      driver().cuModuleUnload(kernel.module);
      throwCuda(found, "cuModuleGetFunction(", __FILE__, __LINE__);
    }
    // An SM that runs one kernel takes in CTAs of another only where the split of L1 and shared memory is the same for
    // both: with the driver's own choice (as little shared memory as the kernel needs) a guest would wait for its host to
    // end, and a launch that may start early would not.
    CHECK(driver().cuFuncSetAttribute(kernel.function, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT,
                                      CU_SHAREDMEM_CARVEOUT_MAX_SHARED));
    int registers, local;
    CHECK(driver().cuFuncGetAttribute(&registers, CU_FUNC_ATTRIBUTE_NUM_REGS, kernel.function));
    CHECK(driver().cuFuncGetAttribute(&local, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, kernel.function));
    kernels_.push_back(kernel);
    Napi::Object result = Napi::Object::New(info.Env());
    result.Set("handle", static_cast<double>(kernels_.size() - 1));
    result.Set("registers", registers);
    result.Set("localBytes", local);
    return result;
  });
}

Napi::Value Device::createProgram(const Napi::CallbackInfo &info) {
  return info.Env().GetInstanceData<Classes>()->program.New({Value(), info[0], info[1]});
}

Napi::Value Device::execute(const Napi::CallbackInfo &info) {
  return guarded(info.Env(), [&] {
    makeCurrent();
    const double *records = info[0].As<Napi::Float64Array>().Data();
    int count = info[1].As<Napi::Number>().Int32Value();
    const uint8_t *data = info[2].As<Napi::Uint8Array>().Data();
    auto programs = info[3].As<Napi::Array>();
    for (int i = 0; i < count; i++, records += 4) {
      if (records[0] == 0) {
        staging_.write(stream_, static_cast<CUdeviceptr>(records[1]), data + static_cast<size_t>(records[2]),
                       static_cast<size_t>(records[3]));
      } else {
        Program::Unwrap(programs.Get(static_cast<uint32_t>(records[1])).As<Napi::Object>())->run();
      }
    }
    return info.Env().Undefined();
  });
}

Napi::Value Device::write(const Napi::CallbackInfo &info) {
  return guarded(info.Env(), [&] {
    makeCurrent();
    auto data = info[1].As<Napi::Uint8Array>();
    staging_.write(stream_, static_cast<CUdeviceptr>(info[0].As<Napi::Number>().Int64Value()), data.Data(),
                   data.ByteLength());
    return info.Env().Undefined();
  });
}

CUevent Device::recordEvent() {
  CUevent event;
  CHECK(driver().cuEventCreate(&event, CU_EVENT_DISABLE_TIMING | CU_EVENT_BLOCKING_SYNC));
  CHECK(driver().cuEventRecord(event, stream_));
  return event;
}

// Pinned memory is slow to make, so blocks are kept; reads of a step are small and of a few sizes.
PinnedBlock Device::takePinned(size_t bytes) {
  for (size_t i = 0; i < pinned_.size(); i++) {
    if (pinned_[i].bytes < bytes || pinned_[i].bytes > 4 * bytes + 65536) continue;
    PinnedBlock block = pinned_[i];
    pinned_.erase(pinned_.begin() + i);
    return block;
  }
  PinnedBlock block{nullptr, std::max<size_t>(bytes, 4096)};
  CHECK(driver().cuMemHostAlloc(&block.data, block.bytes, 0));
  return block;
}

Napi::Value Device::read(const Napi::CallbackInfo &info) {
  return guarded(info.Env(), [&] {
    makeCurrent();
    auto address = static_cast<CUdeviceptr>(info[0].As<Napi::Number>().Int64Value());
    size_t bytes = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
    PinnedBlock memory = takePinned(bytes);
    CHECK(driver().cuMemcpyDtoHAsync(memory.data, address, bytes, stream_));
    auto deferred = std::make_shared<Napi::Promise::Deferred>(info.Env());
    waiter_->wait(info.Env(), recordEvent(), [this, deferred, memory, bytes](Napi::Env env, const std::string &error) {
      Napi::HandleScope scope(env);
      if (error.empty()) {
        Napi::ArrayBuffer result = Napi::ArrayBuffer::New(env, bytes);
        memcpy(result.Data(), memory.data, bytes);
        deferred->Resolve(result);
      } else {
        deferred->Reject(toError(env, CudaError(error, true)).Value());
      }
      pinned_.push_back(memory);
    });
    return deferred->Promise();
  });
}

Napi::Value Device::idle(const Napi::CallbackInfo &info) {
  return guarded(info.Env(), [&] {
    makeCurrent();
    auto deferred = std::make_shared<Napi::Promise::Deferred>(info.Env());
    waiter_->wait(info.Env(), recordEvent(), [deferred](Napi::Env env, const std::string &error) {
      Napi::HandleScope scope(env);
      if (error.empty()) deferred->Resolve(env.Undefined());
      else deferred->Reject(toError(env, CudaError(error, true)).Value());
    });
    return deferred->Promise();
  });
}

Napi::Value Device::profile(const Napi::CallbackInfo &info) {
  return guarded(info.Env(), [&] {
    makeCurrent();
    std::vector<double> times = Program::Unwrap(info[0].As<Napi::Object>())->profile();
    auto result = Napi::Float64Array::New(info.Env(), times.size());
    for (size_t i = 0; i < times.size(); i++) result[i] = times[i];
    return result;
  });
}

Napi::Value Device::loadFile(const Napi::CallbackInfo &info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    makeCurrent();
    auto places = info[1].As<Napi::Float64Array>();
    std::vector<FilePart> parts;
    for (size_t i = 0; i + 2 < places.ElementLength(); i += 3) {
      parts.push_back({static_cast<CUdeviceptr>(places[i]), static_cast<uint64_t>(places[i + 1]),
                       static_cast<uint64_t>(places[i + 2])});
    }
    // Copies must not overtake the zeros that a fresh buffer is filled with.
    CHECK(driver().cuStreamSynchronize(stream_));
    return loadParts(info.Env(), context_, info[0].As<Napi::String>(), std::move(parts),
                     info[2].As<Napi::Function>());
  });
}

Napi::Value Device::destroy(const Napi::CallbackInfo &info) {
  close();
  return info.Env().Undefined();
}
