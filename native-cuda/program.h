// A list of launches made ready for replay: parameters are fixed when it is made; a run is one graph launch.
#pragma once
#include <napi.h>

#include <memory>
#include <vector>

#include "blas.h"
#include "device.h"

// One launch with its parameters in place.
struct Launch {
  CUfunction function = nullptr;
  unsigned ctas = 1, threads = 1, cluster = 1, sharedBytes = 0;
  bool early = false;
  std::vector<std::vector<uint64_t>> values;  // each parameter, 8-byte words; tensor maps are aligned to 64
  std::vector<CUtensorMap> maps;
  std::vector<void *> parameters;
  std::unique_ptr<Product> product;  // instead of a kernel
};

struct Lane {
  CUstream stream;
  std::vector<Launch> launches;
};

class Program : public Napi::ObjectWrap<Program> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit Program(const Napi::CallbackInfo &info);
  ~Program() override;
  void run();
  std::vector<double> profile();

 private:
  Napi::Value launches(const Napi::CallbackInfo &info);
  Napi::Value destroy(const Napi::CallbackInfo &info);
  void close();
  void enqueue();
  void enqueue(const Launch &launch, CUstream stream, bool early);
  void capture();

  Device *device_ = nullptr;
  Napi::ObjectReference deviceReference_;
  std::vector<std::vector<Lane>> steps_;
  std::vector<CUevent> events_;
  CUgraphExec graph_ = nullptr;
  size_t count_ = 0;
};
