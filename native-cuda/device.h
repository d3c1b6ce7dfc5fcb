// One GPU: context, streams, memory, staging, reads. The TypeScript side is src/engine/device/cuda/native.ts.
#pragma once
#include <napi.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "driver.h"

struct Kernel {
  CUmodule module;
  CUfunction function;
  int sharedBytes = 0;  // raised so far
  std::string entry;
};

// Pinned memory through which writes travel: chunks in a ring, each guarded by an event.
class Staging {
 public:
  ~Staging();
  // Copies to the device in stream order; returns when `data` may change.
  void write(CUstream stream, CUdeviceptr to, const uint8_t *data, size_t bytes);
  void destroy();

 private:
  static constexpr size_t CHUNK = 4 << 20;
  static constexpr int CHUNKS = 8;
  struct Chunk {
    uint8_t *memory = nullptr;
    CUevent free = nullptr;
    bool used = false;
  };
  Chunk chunks_[CHUNKS];
  int current_ = 0;
  size_t at_ = 0;
  uint8_t *place(CUstream stream, size_t bytes);
};

// Waits for events on its own thread and calls back on JavaScript's.
class Waiter {
 public:
  using Done = std::function<void(Napi::Env, const std::string &error)>;
  Waiter(Napi::Env env, CUcontext context);
  void destroy();
  void wait(Napi::Env env, CUevent event, Done done);

 private:
  struct Entry {
    CUevent event;
    Done done;
    std::string error;
  };
  void run(CUcontext context);
  Napi::ThreadSafeFunction function_;
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Entry> entries_;
  bool end_ = false;
  int pending_ = 0;
};

// Working memory of one lane: shared by launches that run one after the other.
struct LaneMemory {
  CUdeviceptr counters = 0, scratch = 0;
  size_t counterBytes = 0, scratchBytes = 0;
};

struct PinnedBlock {
  void *data;
  size_t bytes;
};

// Constructors that JavaScript does not call itself.
struct Classes {
  Napi::FunctionReference program;
};

class Device : public Napi::ObjectWrap<Device> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit Device(const Napi::CallbackInfo &info);
  ~Device() override;

  CUcontext context() const { return context_; }
  CUstream stream() const { return stream_; }
  Kernel &kernel(size_t handle);
  // The stream of a lane: lane 0 of the whole device is the main one.
  CUstream laneStream(size_t lane, int multiprocessors);
  LaneMemory &laneMemory(size_t lane, size_t counterBytes, size_t scratchBytes);
  bool alive() const { return context_ != nullptr; }
  void makeCurrent();

 private:
  Napi::Value info(const Napi::CallbackInfo &info);
  Napi::Value memory(const Napi::CallbackInfo &info);
  Napi::Value allocate(const Napi::CallbackInfo &info);
  Napi::Value free(const Napi::CallbackInfo &info);
  Napi::Value loadKernel(const Napi::CallbackInfo &info);
  Napi::Value createProgram(const Napi::CallbackInfo &info);
  Napi::Value execute(const Napi::CallbackInfo &info);
  Napi::Value write(const Napi::CallbackInfo &info);
  Napi::Value read(const Napi::CallbackInfo &info);
  Napi::Value idle(const Napi::CallbackInfo &info);
  Napi::Value profile(const Napi::CallbackInfo &info);
  Napi::Value loadFile(const Napi::CallbackInfo &info);
  Napi::Value destroy(const Napi::CallbackInfo &info);
  void close();

  CUevent recordEvent();
  PinnedBlock takePinned(size_t bytes);

  int ordinal_ = 0;
  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
  CUstream stream_ = nullptr;
  std::map<std::pair<size_t, int>, CUstream> lanes_;
  std::vector<CUgreenCtx> greens_;
  std::vector<LaneMemory> laneMemory_;
  std::vector<CUdeviceptr> retired_;
  std::vector<Kernel> kernels_;
  std::vector<PinnedBlock> pinned_;
  Staging staging_;
  std::unique_ptr<Waiter> waiter_;
};

// The facts of GPU `ordinal` as NativeDeviceInfo.
Napi::Object deviceInfo(Napi::Env env, int ordinal);
// A JavaScript error with the text of a CUDA error and its `sticky`.
Napi::Error toError(Napi::Env env, const CudaError &error);

// Runs `body` and turns CUDA errors into JavaScript ones.
template <class Body> auto guarded(Napi::Env env, Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const CudaError &error) {
    throw toError(env, error);
  }
}
