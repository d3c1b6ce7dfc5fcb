#include "program.h"

#include <cstring>

// As in native.ts.
enum Kind { ADDRESS, U32, FLOAT32, COUNTERS, SCRATCH, MAP };

static const CUtensorMapDataType ELEMENT_TYPES[] = {CU_TENSOR_MAP_DATA_TYPE_FLOAT32, CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
                                                    CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, CU_TENSOR_MAP_DATA_TYPE_UINT32};

static CUtensorMapSwizzle swizzleOf(int bytes) {
  switch (bytes) {
    case 32: return CU_TENSOR_MAP_SWIZZLE_32B;
    case 64: return CU_TENSOR_MAP_SWIZZLE_64B;
    case 128: return CU_TENSOR_MAP_SWIZZLE_128B;
    default: return CU_TENSOR_MAP_SWIZZLE_NONE;
  }
}

static std::vector<double> numbersOf(const Napi::Value &value) {
  auto list = value.As<Napi::Array>();
  std::vector<double> result(list.Length());
  for (uint32_t i = 0; i < list.Length(); i++) result[i] = list.Get(i).As<Napi::Number>().DoubleValue();
  return result;
}

// [kind, address, element, swizzle, rank, sizes (rank), strides (rank - 1), box (rank)]
static CUtensorMap encodeMap(const std::vector<double> &numbers) {
  int element = static_cast<int>(numbers[2]), rank = static_cast<int>(numbers[4]);
  cuuint64_t sizes[5], strides[5];
  cuuint32_t box[5], steps[5];
  for (int i = 0; i < rank; i++) {
    sizes[i] = static_cast<cuuint64_t>(numbers[5 + i]);
    box[i] = static_cast<cuuint32_t>(numbers[5 + rank + rank - 1 + i]);
    steps[i] = 1;
  }
  for (int i = 0; i + 1 < rank; i++) strides[i] = static_cast<cuuint64_t>(numbers[5 + rank + i]);
  alignas(64) CUtensorMap map;
  CHECK(driver().cuTensorMapEncodeTiled(&map, ELEMENT_TYPES[element], rank, reinterpret_cast<void *>(static_cast<uint64_t>(numbers[1])),
                                        sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                        swizzleOf(static_cast<int>(numbers[3])), CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                        CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
  return map;
}

static size_t bytesOf(const Napi::Object &launch, Kind wanted) {
  if (!launch.Has("args")) return 0;
  auto args = launch.Get("args").As<Napi::Array>();
  size_t most = 0;
  for (uint32_t i = 0; i < args.Length(); i++) {
    auto numbers = args.Get(i).As<Napi::Array>();
    if (numbers.Get(0u).As<Napi::Number>().Int32Value() != wanted) continue;
    most = std::max(most, static_cast<size_t>(numbers.Get(1).As<Napi::Number>().Int64Value()));
  }
  return most;
}

static Launch kernelLaunch(Device &device, const Napi::Object &from, const LaneMemory &memory) {
  Launch launch;
  auto number = [&](const char *name) { return from.Get(name).As<Napi::Number>().Uint32Value(); };
  Kernel &kernel = device.kernel(number("kernel"));
  launch.function = kernel.function;
  launch.ctas = number("ctas");
  launch.threads = number("threads");
  launch.cluster = number("cluster");
  launch.sharedBytes = number("sharedBytes");
  launch.early = from.Get("early").As<Napi::Boolean>();
  if (static_cast<int>(launch.sharedBytes) > kernel.sharedBytes) {
    CHECK(driver().cuFuncSetAttribute(kernel.function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                      static_cast<int>(launch.sharedBytes)));
    kernel.sharedBytes = static_cast<int>(launch.sharedBytes);
  }
  auto args = from.Get("args").As<Napi::Array>();
  // Addresses of parameters are taken when both lists have their final size.
  std::vector<std::pair<bool, size_t>> order;
  for (uint32_t i = 0; i < args.Length(); i++) {
    std::vector<double> numbers = numbersOf(args.Get(i));
    Kind kind = static_cast<Kind>(static_cast<int>(numbers[0]));
    if (kind == MAP) {
      order.push_back({true, launch.maps.size()});
      launch.maps.push_back(encodeMap(numbers));
      continue;
    }
    uint64_t word = 0;
    if (kind == ADDRESS) word = static_cast<uint64_t>(numbers[1]);
    else if (kind == U32) word = static_cast<uint32_t>(numbers[1]);
    else if (kind == COUNTERS) word = memory.counters;
    else if (kind == SCRATCH) word = memory.scratch;
    else {
      float value = static_cast<float>(numbers[1]);
      memcpy(&word, &value, sizeof value);
    }
    order.push_back({false, launch.values.size()});
    launch.values.push_back({word});
  }
  for (auto [isMap, at] : order) {
    launch.parameters.push_back(isMap ? static_cast<void *>(&launch.maps[at]) : launch.values[at].data());
  }
  return launch;
}

static std::unique_ptr<Product> productOf(const Napi::Object &from) {
  auto number = [&](const char *name) { return from.Get(name).As<Napi::Number>().Int64Value(); };
  return std::make_unique<Product>(ProductShape{
      static_cast<uint64_t>(number("a")), static_cast<uint64_t>(number("w")), static_cast<uint64_t>(number("out")),
      number("m"), number("n"), number("k"), number("ldc"), static_cast<int>(number("inType")),
      static_cast<int>(number("outType")), from.Get("add").As<Napi::Boolean>()});
}

Napi::Function Program::define(Napi::Env env) {
  return DefineClass(env, "Program",
                     {InstanceAccessor<&Program::launches>("launches"), InstanceMethod<&Program::destroy>("destroy")});
}

// (device, steps, graph)
Program::Program(const Napi::CallbackInfo &info) : Napi::ObjectWrap<Program>(info) {
  guarded(info.Env(), [&] {
    Napi::Object owner = info[0].As<Napi::Object>();
    device_ = Device::Unwrap(owner);
    deviceReference_ = Napi::Persistent(owner);
    device_->makeCurrent();
    auto steps = info[1].As<Napi::Array>();
    try {
      for (uint32_t s = 0; s < steps.Length(); s++) {
        auto lanes = steps.Get(s).As<Napi::Array>();
        steps_.emplace_back();
        for (uint32_t l = 0; l < lanes.Length(); l++) {
          auto from = lanes.Get(l).As<Napi::Object>();
          auto launches = from.Get("launches").As<Napi::Array>();
          size_t counters = 0, scratch = 0;
          for (uint32_t i = 0; i < launches.Length(); i++) {
            counters = std::max(counters, bytesOf(launches.Get(i).As<Napi::Object>(), COUNTERS));
            scratch = std::max(scratch, bytesOf(launches.Get(i).As<Napi::Object>(), SCRATCH));
          }
          const LaneMemory memory = device_->laneMemory(l, counters, scratch);
          Lane lane{device_->laneStream(l, from.Get("multiprocessors").As<Napi::Number>().Int32Value()), {}};
          for (uint32_t i = 0; i < launches.Length(); i++) {
            auto each = launches.Get(i).As<Napi::Object>();
            if (each.Has("product")) {
              lane.launches.emplace_back();
              lane.launches.back().product = productOf(each.Get("product").As<Napi::Object>());
            } else {
              lane.launches.push_back(kernelLaunch(*device_, each, memory));
            }
            count_++;
          }
          steps_.back().push_back(std::move(lane));
        }
      }
      if (info[2].As<Napi::Boolean>() && count_ > 0) capture();
    } catch (const CudaError &) {
      close();
      throw;
    } catch (const std::runtime_error &error) {
      close();
      throw Napi::Error::New(info.Env(), error.what());
    }
  });
}

Program::~Program() { close(); }

void Program::close() {
  if (device_ && device_->alive()) {
    driver().cuCtxSetCurrent(device_->context());
    if (graph_) driver().cuGraphExecDestroy(graph_);
    for (CUevent event : events_) driver().cuEventDestroy(event);
  }
  graph_ = nullptr;
  events_.clear();
  steps_.clear();
  device_ = nullptr;
  if (!deviceReference_.IsEmpty()) deviceReference_.Reset();
}

void Program::enqueue(const Launch &launch, CUstream stream, bool early) {
  if (launch.product) {
    launch.product->enqueue(stream);
    return;
  }
  CUlaunchAttribute attributes[2];
  unsigned count = 0;
  if (launch.cluster > 1) {
    attributes[count].id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    attributes[count].value.clusterDim.x = launch.cluster;
    attributes[count].value.clusterDim.y = 1;
    attributes[count++].value.clusterDim.z = 1;
  }
  if (early) {
    attributes[count].id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attributes[count++].value.programmaticStreamSerializationAllowed = 1;
  }
  CUlaunchConfig config{};
  config.gridDimX = launch.ctas;
  config.gridDimY = config.gridDimZ = 1;
  config.blockDimX = launch.threads;
  config.blockDimY = config.blockDimZ = 1;
  config.sharedMemBytes = launch.sharedBytes;
  config.hStream = stream;
  config.attrs = attributes;
  config.numAttrs = count;
  CHECK(driver().cuLaunchKernelEx(&config, launch.function, const_cast<void **>(launch.parameters.data()), nullptr));
}

// Steps in order on the main stream; a step with several lanes forks after what is before it, and joins at its end.
void Program::enqueue() {
  CUstream main = device_->stream();
  size_t used = 0;
  auto event = [&] {
    if (used == events_.size()) {
      events_.emplace_back();
      CHECK(driver().cuEventCreate(&events_.back(), CU_EVENT_DISABLE_TIMING));
    }
    return events_[used++];
  };
  bool afterKernel = false;  // on the main stream, with nothing between
  for (const auto &lanes : steps_) {
    CUevent start = nullptr;
    for (const Lane &lane : lanes) {
      if (lane.stream == main) continue;
      if (!start) {
        start = event();
        CHECK(driver().cuEventRecord(start, main));
      }
      CHECK(driver().cuStreamWaitEvent(lane.stream, start, 0));
    }
    for (const Lane &lane : lanes) {
      bool early = lane.stream == main && afterKernel;
      for (const Launch &launch : lane.launches) {
        enqueue(launch, lane.stream, early && launch.early);
        early = !launch.product;
      }
      if (lane.stream == main) afterKernel = early;
    }
    for (const Lane &lane : lanes) {
      if (lane.stream == main) continue;
      CUevent end = event();
      CHECK(driver().cuEventRecord(end, lane.stream));
      CHECK(driver().cuStreamWaitEvent(main, end, 0));
      afterKernel = false;
    }
  }
}

void Program::capture() {
  CUgraph graph = nullptr;
  CHECK(driver().cuStreamBeginCapture(device_->stream(), CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  try {
    enqueue();
  } catch (...) {
    driver().cuStreamEndCapture(device_->stream(), &graph);
    if (graph) driver().cuGraphDestroy(graph);
    throw;
  }
  CHECK(driver().cuStreamEndCapture(device_->stream(), &graph));
  CUresult made = driver().cuGraphInstantiateWithFlags(&graph_, graph, 0);
  driver().cuGraphDestroy(graph);
  if (made != CUDA_SUCCESS) throwCuda(made, "cuGraphInstantiateWithFlags(", __FILE__, __LINE__);
  CHECK(driver().cuGraphUpload(graph_, device_->stream()));
}

void Program::run() {
  if (!device_) throw CudaError("the program was destroyed", false);
  if (graph_) CHECK(driver().cuGraphLaunch(graph_, device_->stream()));
  else enqueue();
}

// Each launch between two events, all of them one after the other.
std::vector<double> Program::profile() {
  if (!device_) throw CudaError("the program was destroyed", false);
  CUstream main = device_->stream();
  std::vector<CUevent> marks(count_ + 1);
  for (CUevent &mark : marks) CHECK(driver().cuEventCreate(&mark, CU_EVENT_DEFAULT));
  CHECK(driver().cuEventRecord(marks[0], main));
  size_t at = 0;
  for (const auto &lanes : steps_) {
    for (const Lane &lane : lanes) {
      for (const Launch &launch : lane.launches) {
        enqueue(launch, main, false);
        CHECK(driver().cuEventRecord(marks[++at], main));
      }
    }
  }
  CHECK(driver().cuStreamSynchronize(main));
  std::vector<double> times;
  for (size_t i = 0; i < count_; i++) {
    for (size_t end : {i, i + 1}) {
      float milliseconds;
      CHECK(driver().cuEventElapsedTime(&milliseconds, marks[0], marks[end]));
      times.push_back(milliseconds * 1000.0);
    }
  }
  for (CUevent mark : marks) driver().cuEventDestroy(mark);
  return times;
}

Napi::Value Program::launches(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), static_cast<double>(count_));
}

Napi::Value Program::destroy(const Napi::CallbackInfo &info) {
  close();
  return info.Env().Undefined();
}
