#include "program.h"

#include <algorithm>
#include <cstring>
#include <map>

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
  // Boxes of the KV cache (rank 3) are blocks of 128 bytes a row: fetching twice that into L2 made it serve a quarter more.
  CUtensorMapL2promotion promotion = rank == 3 ? CU_TENSOR_MAP_L2_PROMOTION_L2_128B : CU_TENSOR_MAP_L2_PROMOTION_L2_256B;
  alignas(64) CUtensorMap map;
  CHECK(driver().cuTensorMapEncodeTiled(&map, ELEMENT_TYPES[element], rank, reinterpret_cast<void *>(static_cast<uint64_t>(numbers[1])),
                                        sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                        swizzleOf(static_cast<int>(numbers[3])), promotion,
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

// A launch reads as many parameters as the kernel declares, so what is missing would be read from anywhere.
static void checkParameters(const Kernel &kernel, const std::vector<size_t> &sizes) {
  if (!driver().cuFuncGetParamInfo) return;
  for (size_t i = 0; i <= sizes.size(); i++) {
    size_t offset = 0, size = 0;
    bool declared = driver().cuFuncGetParamInfo(kernel.function, i, &offset, &size) == CUDA_SUCCESS;
    if (i < sizes.size() ? declared && size == sizes[i] : !declared) continue;
    std::string want = declared ? "parameter " + std::to_string(i) + " of " + std::to_string(size) + " bytes"
                                : "only " + std::to_string(i) + " parameters";
    std::string got = i < sizes.size() ? "one of " + std::to_string(sizes[i]) + " bytes" : "none";
    throw CudaError("kernel " + kernel.entry + " declares " + want + ", the launch passes " + got, false);
  }
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
  std::vector<size_t> sizes;
  for (uint32_t i = 0; i < args.Length(); i++) {
    int kind = args.Get(i).As<Napi::Array>().Get(0u).As<Napi::Number>().Int32Value();
    sizes.push_back(kind == MAP ? sizeof(CUtensorMap) : kind == U32 || kind == FLOAT32 ? 4 : 8);
  }
  checkParameters(kernel, sizes);
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

// (device, launches, graph)
Program::Program(const Napi::CallbackInfo &info) : Napi::ObjectWrap<Program>(info) {
  guarded(info.Env(), [&] {
    Napi::Object owner = info[0].As<Napi::Object>();
    device_ = Device::Unwrap(owner);
    deviceReference_ = Napi::Persistent(owner);
    device_->makeCurrent();
    try {
      parse(info[1].As<Napi::Array>());
      if (info[2].As<Napi::Boolean>() && !launches_.empty()) capture();
    } catch (const CudaError &) {
      close();
      throw;
    } catch (const std::runtime_error &error) {
      close();
      throw Napi::Error::New(info.Env(), error.what());
    }
  });
}

void Program::parse(const Napi::Array &list) {
  // Working memory of a stream is as large as its hungriest launch wants.
  std::map<uint32_t, LaneMemory> wanted;
  for (uint32_t i = 0; i < list.Length(); i++) {
    Napi::Object each = list.Get(i).As<Napi::Object>();
    LaneMemory &memory = wanted[each.Get("stream").As<Napi::Number>().Uint32Value()];
    memory.counterBytes = std::max(memory.counterBytes, bytesOf(each, COUNTERS));
    memory.scratchBytes = std::max(memory.scratchBytes, bytesOf(each, SCRATCH));
  }
  int events = 0;
  for (uint32_t i = 0; i < list.Length(); i++) {
    Napi::Object each = list.Get(i).As<Napi::Object>();
    uint32_t stream = each.Get("stream").As<Napi::Number>().Uint32Value();
    const LaneMemory &size = wanted[stream];
    const LaneMemory memory = device_->laneMemory(stream, size.counterBytes, size.scratchBytes);
    Launch launch;
    if (each.Has("product")) launch.product = productOf(each.Get("product").As<Napi::Object>());
    else launch = kernelLaunch(*device_, each, memory);
    launch.stream = device_->laneStream(stream, each.Get("multiprocessors").As<Napi::Number>().Int32Value());
    for (double wait : numbersOf(each.Get("waits"))) launch.waits.push_back(static_cast<int>(wait));
    launch.signal = each.Get("signal").As<Napi::Number>().Int32Value();
    events = std::max(events, launch.signal + 1);
    if (launch.stream != device_->stream() &&
        std::find(sides_.begin(), sides_.end(), launch.stream) == sides_.end()) {
      sides_.push_back(launch.stream);
    }
    launches_.push_back(std::move(launch));
  }
  events_.resize(events + 1 + sides_.size());
  for (CUevent &event : events_) CHECK(driver().cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
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
  launches_.clear();
  device_ = nullptr;
  if (!deviceReference_.IsEmpty()) deviceReference_.Reset();
}

void Program::enqueue(const Launch &launch, CUstream stream, bool early) const {
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

// Side streams start after what is before the run on the main stream, and the main stream ends after them.
void Program::enqueue() {
  CUstream main = device_->stream();
  CUevent *marks = events_.data() + events_.size() - 1 - sides_.size();
  if (!sides_.empty()) {
    CHECK(driver().cuEventRecord(marks[0], main));
    for (CUstream side : sides_) CHECK(driver().cuStreamWaitEvent(side, marks[0], 0));
  }
  std::map<CUstream, bool> afterKernel;  // whether the last thing on a stream is a kernel
  for (const Launch &launch : launches_) {
    for (int wait : launch.waits) CHECK(driver().cuStreamWaitEvent(launch.stream, events_[wait], 0));
    bool &after = afterKernel[launch.stream];
    enqueue(launch, launch.stream, launch.early && after && launch.waits.empty());
    after = !launch.product;
    if (launch.signal >= 0) CHECK(driver().cuEventRecord(events_[launch.signal], launch.stream));
  }
  for (size_t i = 0; i < sides_.size(); i++) {
    CHECK(driver().cuEventRecord(marks[1 + i], sides_[i]));
    CHECK(driver().cuStreamWaitEvent(main, marks[1 + i], 0));
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

// Each launch between two events on its own stream, so that what runs side by side shows so.
std::vector<double> Program::profile() {
  if (!device_) throw CudaError("the program was destroyed", false);
  CUstream main = device_->stream();
  std::vector<CUevent> marks(2 * launches_.size() + 1);
  for (CUevent &mark : marks) CHECK(driver().cuEventCreate(&mark, CU_EVENT_DEFAULT));
  CHECK(driver().cuEventRecord(marks[0], main));
  for (CUstream side : sides_) CHECK(driver().cuStreamWaitEvent(side, marks[0], 0));
  for (size_t i = 0; i < launches_.size(); i++) {
    const Launch &launch = launches_[i];
    for (int wait : launch.waits) CHECK(driver().cuStreamWaitEvent(launch.stream, events_[wait], 0));
    CHECK(driver().cuEventRecord(marks[2 * i + 1], launch.stream));
    enqueue(launch, launch.stream, false);
    CHECK(driver().cuEventRecord(marks[2 * i + 2], launch.stream));
    if (launch.signal >= 0) CHECK(driver().cuEventRecord(events_[launch.signal], launch.stream));
  }
  for (CUstream side : sides_) CHECK(driver().cuStreamSynchronize(side));
  CHECK(driver().cuStreamSynchronize(main));
  std::vector<double> times;
  for (size_t i = 1; i < marks.size(); i++) {
    float milliseconds;
    CHECK(driver().cuEventElapsedTime(&milliseconds, marks[0], marks[i]));
    times.push_back(milliseconds * 1000.0);
  }
  for (CUevent mark : marks) driver().cuEventDestroy(mark);
  return times;
}

Napi::Value Program::launches(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), static_cast<double>(launches_.size()));
}

Napi::Value Program::destroy(const Napi::CallbackInfo &info) {
  close();
  return info.Env().Undefined();
}
