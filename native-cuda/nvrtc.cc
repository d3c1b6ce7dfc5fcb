#include "nvrtc.h"

#include <stdexcept>
#include <string>
#include <vector>

#include "library.h"

namespace {
using Handle = void *;

// The part of nvrtc.h that is used.
struct Library {
  int (*version)(int *, int *);
  int (*create)(Handle *, const char *, const char *, int, const char *const *, const char *const *);
  int (*compile)(Handle, int, const char *const *);
  int (*logSize)(Handle, size_t *);
  int (*log)(Handle, char *);
  int (*cubinSize)(Handle, size_t *);
  int (*cubin)(Handle, char *);
  int (*destroy)(Handle *);
};

const Library *library() {
  static Library table{};
  static const bool whole = openLibrary({"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"}, table, [](Library &table, auto load) {
    load(table.version, "nvrtcVersion");
    load(table.create, "nvrtcCreateProgram");
    load(table.compile, "nvrtcCompileProgram");
    load(table.logSize, "nvrtcGetProgramLogSize");
    load(table.log, "nvrtcGetProgramLog");
    load(table.cubinSize, "nvrtcGetCUBINSize");
    load(table.cubin, "nvrtcGetCUBIN");
    load(table.destroy, "nvrtcDestroyProgram");
  });
  return whole ? &table : nullptr;
}

class Compile : public Napi::AsyncWorker {
 public:
  explicit Compile(const Napi::CallbackInfo &info)
      : Napi::AsyncWorker(info.Env(), "nanoflow-nvrtc"), deferred(info.Env()) {
    source_ = info[0].As<Napi::String>().Utf8Value();
    name_ = info[1].As<Napi::String>().Utf8Value();
    auto headers = info[2].As<Napi::Object>();
    auto names = headers.GetPropertyNames();
    for (uint32_t i = 0; i < names.Length(); i++) {
      std::string name = names.Get(i).As<Napi::String>();
      headerNames_.push_back(name);
      headerTexts_.push_back(headers.Get(name).As<Napi::String>().Utf8Value());
    }
    auto options = info[3].As<Napi::Array>();
    for (uint32_t i = 0; i < options.Length(); i++) options_.push_back(options.Get(i).As<Napi::String>());
  }

  Napi::Promise::Deferred deferred;

 protected:
  void Execute() override {
    const Library *nvrtc = library();
    if (!nvrtc) {
      SetError("NVRTC is not installed: libnvrtc.so.13 or .12 was not found; install the CUDA runtime compiler "
               "(package cuda-nvrtc), or prebuild this kernel with npm run cuda:aot");
      return;
    }
    auto pointers = [](const std::vector<std::string> &texts) {
      std::vector<const char *> result;
      for (const std::string &text : texts) result.push_back(text.c_str());
      return result;
    };
    auto names = pointers(headerNames_), texts = pointers(headerTexts_), options = pointers(options_);
    Handle program;
    int made = nvrtc->create(&program, source_.c_str(), name_.c_str(), static_cast<int>(names.size()), texts.data(),
                             names.data());
    if (made != 0) {
      SetError("nvrtcCreateProgram answers " + std::to_string(made));
      return;
    }
    int status = nvrtc->compile(program, static_cast<int>(options.size()), options.data());
    if (status != 0) {
      size_t size = 0;
      nvrtc->logSize(program, &size);
      std::string log(size, '\0');
      if (size > 0) nvrtc->log(program, log.data());
      SetError("NVRTC answers " + std::to_string(status) + " for " + name_ + ":\n" + log.c_str());
    } else {
      size_t size = 0;
      nvrtc->cubinSize(program, &size);
      image_.resize(size);
      int got = nvrtc->cubin(program, image_.data());
      if (got != 0 || size == 0) SetError("NVRTC made no machine code for " + name_);
    }
    nvrtc->destroy(&program);
  }

  void OnOK() override {
    auto result = Napi::Uint8Array::New(Env(), image_.size());
    std::copy(image_.begin(), image_.end(), reinterpret_cast<char *>(result.Data()));
    deferred.Resolve(result);
  }

  void OnError(const Napi::Error &error) override { deferred.Reject(error.Value()); }

 private:
  std::string source_, name_;
  std::vector<std::string> headerNames_, headerTexts_, options_;
  std::vector<char> image_;
};
}  // namespace

int nvrtcVersion() {
  int major = 0, minor = 0;
  if (!library() || library()->version(&major, &minor) != 0) return 0;
  return major * 1000 + minor * 10;
}

Napi::Value compileSource(const Napi::CallbackInfo &info) {
  auto *worker = new Compile(info);
  Napi::Promise promise = worker->deferred.Promise();
  worker->Queue();
  return promise;
}
