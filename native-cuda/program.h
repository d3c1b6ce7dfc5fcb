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
  CUstream stream = nullptr;
  std::vector<int> waits;  // events that other streams signal
  int signal = -1;         // event that it signals
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
  void enqueue(const Launch &launch, CUstream stream, bool early) const;
  void parse(const Napi::Array &list);
  void capture();

  Device *device_ = nullptr;
  Napi::ObjectReference deviceReference_;
  std::vector<Launch> launches_;
  std::vector<CUevent> events_;  // by number; then one for the start and one for the end of each side stream
  std::vector<CUstream> sides_;
  CUgraphExec graph_ = nullptr;
};
