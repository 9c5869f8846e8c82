// The N-API face of the engine. Batched: one call a run, everything else through shared buffers.
#include <napi.h>

#include <stdexcept>
#include <string>

#include "engine.h"

namespace caretaker {
namespace {

// Model memory as JavaScript has it: an ArrayBuffer over pages that live until the last engine and buffer are gone.
class Memory : public Napi::ObjectWrap<Memory> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "NativeMemory", {InstanceAccessor<&Memory::buffer>("buffer")});
  }

  explicit Memory(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    const int64_t size = info[0].As<Napi::Number>().Int64Value();
    if (size <= 0 || size % static_cast<int64_t>(kPageSize) != 0 ||
        size > static_cast<int64_t>(TableArena::kBase)) {
      throw Napi::RangeError::New(info.Env(), "memory size must be whole pages below 3.75 GiB");
    }
    memory_ = std::make_shared<SharedMemory>(static_cast<size_t>(size));
    auto* keep = new std::shared_ptr<SharedMemory>(memory_);
    const auto finalize = [](Napi::Env, void*, std::shared_ptr<SharedMemory>* kept) { delete kept; };
    buffer_ = Napi::Persistent(Napi::ArrayBuffer::New(info.Env(), memory_->bytes(), memory_->size(),
                                                      finalize, keep));
  }

  const std::shared_ptr<SharedMemory>& memory() const { return memory_; }

 private:
  Napi::Value buffer(const Napi::CallbackInfo&) { return buffer_.Value(); }

  std::shared_ptr<SharedMemory> memory_;
  Napi::Reference<Napi::ArrayBuffer> buffer_;
};

// What an engine commits beside model memory, roughly: translated code, tables, Unicorn's own. The collector of garbage
// sees a small object and must be told, or a process that makes many machines keeps all of them.
constexpr int64_t kEngineBytes = 24 << 20;

uint64_t address(const Napi::Value& value) {
  return static_cast<uint64_t>(value.As<Napi::Number>().Int64Value());
}

class NativeEngine : public Napi::ObjectWrap<NativeEngine> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "NativeEngine",
                       {InstanceMethod<&NativeEngine::step_native>("stepNative"),
                        InstanceMethod<&NativeEngine::create_space>("createSpace"),
                        InstanceMethod<&NativeEngine::activate_space>("activateSpace"),
                        InstanceMethod<&NativeEngine::dispose_space>("disposeSpace"),
                        InstanceMethod<&NativeEngine::define_code>("defineCode"),
                        InstanceMethod<&NativeEngine::remove_code>("removeCode"),
                        InstanceMethod<&NativeEngine::set_breakpoint>("setBreakpoint"),
                        InstanceMethod<&NativeEngine::save_flow>("saveFlow"),
                        InstanceMethod<&NativeEngine::restore_flow>("restoreFlow"),
                        InstanceMethod<&NativeEngine::is_extended_used>("isExtendedUsed"),
                        InstanceMethod<&NativeEngine::read_extended>("readExtended"),
                        InstanceMethod<&NativeEngine::write_extended>("writeExtended"),
                        InstanceMethod<&NativeEngine::bind_vmcs>("bindVmcs"),
                        InstanceMethod<&NativeEngine::unbind_vmcs>("unbindVmcs"),
                        InstanceMethod<&NativeEngine::set_slot_table>("setSlotTable"),
                        InstanceMethod<&NativeEngine::set_watch>("setWatch"),
                        InstanceMethod<&NativeEngine::set_stop_watch>("setStopWatch"),
                        InstanceMethod<&NativeEngine::take_accesses>("takeAccesses"),
                        InstanceMethod<&NativeEngine::take_dirty>("takeDirty"),
                        InstanceMethod<&NativeEngine::read_vectors>("readVectors"),
                        InstanceMethod<&NativeEngine::write_vectors>("writeVectors"),
                        InstanceMethod<&NativeEngine::dispose>("dispose")});
  }

  // (memory, registers, counters, info, coverage, edges, trace): ArrayBuffers of the sizes that native-binding.ts states.
  explicit NativeEngine(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    Memory* memory = Memory::Unwrap(info[0].As<Napi::Object>());
    SharedBuffers buffers;
    buffers.registers = shared<uint64_t>(info[1], 20);
    buffers.counters = shared<double>(info[2], slot::kLoggedWrites + 1);
    buffers.info = shared<uint64_t>(info[3], slot::kErrorCode + 1);
    buffers.coverage = shared<uint8_t>(info[4], kCoverageBytes);
    buffers.edges = shared<uint32_t>(info[5], kCoverageBytes + 1);
    buffers.trace = shared<uint64_t>(info[6], kTraceEntries);
    engine_ = guard([&] { return std::make_unique<Engine>(memory->memory(), buffers); });
    info.This().As<Napi::Object>().Set("run", run_function());
    Napi::MemoryManagement::AdjustExternalMemory(Env(), kEngineBytes);
  }
  ~NativeEngine() override { forget(); }

 private:
  // Translates C++ failures; the engine must not have been disposed.
  template <typename Body>
  auto guard(Body body) -> decltype(body()) {
    try {
      return body();
    } catch (const Napi::Error&) {
      throw;
    } catch (const std::exception& error) {
      throw Napi::Error::New(Env(), error.what());
    }
  }
  Engine& engine() {
    if (engine_ == nullptr) throw Napi::Error::New(Env(), "the engine was disposed");
    return *engine_;
  }

  // The bytes of an ArrayBuffer that stays alive as long as this engine.
  template <typename T>
  T* shared(const Napi::Value& value, size_t least) {
    Napi::ArrayBuffer buffer = value.As<Napi::ArrayBuffer>();
    if (buffer.ByteLength() < least * sizeof(T)) {
      throw Napi::RangeError::New(Env(), "a shared buffer is too small");
    }
    kept_.push_back(Napi::Persistent(buffer.As<Napi::Object>()));
    return static_cast<T*>(buffer.Data());
  }

  // run(limit), several times an exit: a function that knows its engine, where a method would look `this` up by a
  // private property and wrap every value. Only the object itself holds it.
  Napi::Value run_function() {
    napi_value function = nullptr;
    if (napi_create_function(Env(), "run", NAPI_AUTO_LENGTH, run, this, &function) != napi_ok) {
      throw Napi::Error::New(Env(), "the engine's run() cannot be made");
    }
    return Napi::Value(Env(), function);
  }
  static napi_value run(napi_env env, napi_callback_info info) {
    size_t count = 1;
    napi_value limit_value = nullptr, result = nullptr;
    void* self = nullptr;
    double limit = 0;
    if (napi_get_cb_info(env, info, &count, &limit_value, nullptr, &self) != napi_ok ||
        napi_get_value_double(env, limit_value, &limit) != napi_ok) {
      napi_throw_type_error(env, nullptr, "run() takes a number");
      return nullptr;
    }
    const std::unique_ptr<Engine>& engine = static_cast<NativeEngine*>(self)->engine_;
    try {
      if (engine == nullptr) throw std::runtime_error("the engine was disposed");
      napi_create_int32(env, static_cast<int32_t>(engine->run(limit)), &result);
    } catch (const std::exception& error) {
      napi_throw_error(env, nullptr, error.what());
    }
    return result;
  }
  Napi::Value step_native(const Napi::CallbackInfo&) {
    return guard([&] {
      return Napi::Number::New(Env(), static_cast<int>(engine().step_native()));
    });
  }
  // Float64Array of [base, size, writable | executable << 1] for each range.
  Napi::Value create_space(const Napi::CallbackInfo& info) {
    const auto rows = info[0].As<Napi::Float64Array>();
    std::vector<LinearRange> ranges;
    for (size_t at = 0; at + 2 < rows.ElementLength(); at += 3) {
      const int permissions = static_cast<int>(rows[at + 2]);
      ranges.push_back({static_cast<uint64_t>(rows[at]), static_cast<uint64_t>(rows[at + 1]),
                        (permissions & 1) != 0, (permissions & 2) != 0, (permissions & 4) != 0});
    }
    return guard([&] { return Napi::Number::New(Env(), engine().create_space(ranges)); });
  }
  void activate_space(const Napi::CallbackInfo& info) {
    guard([&] { engine().activate_space(info[0].As<Napi::Number>().Uint32Value()); });
  }
  void dispose_space(const Napi::CallbackInfo& info) {
    guard([&] { engine().dispose_space(info[0].As<Napi::Number>().Uint32Value()); });
  }
  // (base, flags: Uint8Array, one a byte; sites: Int32Array of [offset, id, length, how, rm, reg]).
  void define_code(const Napi::CallbackInfo& info) {
    const auto flags = info[1].As<Napi::Uint8Array>();
    const auto rows = info[2].As<Napi::Int32Array>();
    std::vector<CodeSite> sites;
    for (size_t at = 0; at + 5 < rows.ElementLength(); at += 6) {
      sites.push_back({static_cast<uint32_t>(rows[at]), static_cast<uint32_t>(rows[at + 1]),
                       static_cast<uint8_t>(rows[at + 2]), static_cast<Inline>(rows[at + 3]),
                       static_cast<uint8_t>(rows[at + 4]), static_cast<uint8_t>(rows[at + 5])});
    }
    guard([&] {
      engine().define_code(address(info[0]), flags.ElementLength(), flags.Data(), std::move(sites));
    });
  }
  void remove_code(const Napi::CallbackInfo& info) {
    guard([&] { engine().remove_code(address(info[0]), address(info[1])); });
  }
  void save_flow(const Napi::CallbackInfo& info) {
    const auto words = info[0].As<Napi::Float64Array>();
    if (words.ElementLength() != Engine::kFlowWords) {
      throw Napi::RangeError::New(Env(), "not the flow of an engine");
    }
    guard([&] { engine().save_flow(const_cast<double*>(words.Data())); });
  }
  void restore_flow(const Napi::CallbackInfo& info) {
    const auto words = info[0].As<Napi::Float64Array>();
    if (words.ElementLength() != Engine::kFlowWords) {
      throw Napi::RangeError::New(Env(), "not the flow of an engine");
    }
    engine().restore_flow(words.Data());
  }
  Napi::Value is_extended_used(const Napi::CallbackInfo&) {
    return guard([&] { return Napi::Boolean::New(Env(), engine().is_extended_used()); });
  }
  void read_extended(const Napi::CallbackInfo& info) {
    auto bytes = info[0].As<Napi::Uint8Array>();
    if (bytes.ElementLength() != Engine::kExtendedBytes) {
      throw Napi::RangeError::New(Env(), "not an engine's extended state");
    }
    guard([&] { engine().read_extended(bytes.Data()); });
  }
  void write_extended(const Napi::CallbackInfo& info) {
    const auto bytes = info[0].As<Napi::Uint8Array>();
    if (bytes.ElementLength() != Engine::kExtendedBytes) {
      throw Napi::RangeError::New(Env(), "not an engine's extended state");
    }
    guard([&] { engine().write_extended(bytes.Data()); });
  }
  void set_breakpoint(const Napi::CallbackInfo& info) {
    guard([&] {
      engine().set_breakpoint(address(info[0]), info[1].As<Napi::Boolean>().Value());
    });
  }
  // (values: BigUint64Array, flags: Uint8Array, written: Uint16Array, writtenCount: Uint32Array(1)).
  void bind_vmcs(const Napi::CallbackInfo& info) {
    auto values = info[0].As<Napi::BigUint64Array>();
    auto flags = info[1].As<Napi::Uint8Array>();
    auto written = info[2].As<Napi::Uint16Array>();
    auto count = info[3].As<Napi::Uint32Array>();
    if (flags.ElementLength() < values.ElementLength() ||
        written.ElementLength() < values.ElementLength() || count.ElementLength() < 1) {
      throw Napi::RangeError::New(Env(), "the VMCS arrays differ in length");
    }
    BoundVmcs vmcs;
    vmcs.values = values.Data();
    vmcs.flags = flags.Data();
    vmcs.written = written.Data();
    vmcs.written_count = count.Data();
    vmcs.slots = static_cast<uint32_t>(values.ElementLength());
    vmcs_kept_.clear();
    for (int at = 0; at < 4; at++) vmcs_kept_.push_back(Napi::Persistent(info[at].As<Napi::Object>()));
    guard([&] { engine().bind_vmcs(vmcs); });
  }
  void unbind_vmcs(const Napi::CallbackInfo&) {
    guard([&] { engine().bind_vmcs(BoundVmcs()); });
    vmcs_kept_.clear();
  }
  void set_slot_table(const Napi::CallbackInfo& info) {
    const auto table = info[0].As<Napi::Uint16Array>();
    if (table.ElementLength() != 65536) throw Napi::RangeError::New(Env(), "not 65536 slots");
    kept_.push_back(Napi::Persistent(table.As<Napi::Object>()));
    guard([&] { engine().set_slot_table(table.Data()); });
  }
  // (base, masks: Uint8Array, one a byte, whether reads are logged with their own RIP).
  void set_watch(const Napi::CallbackInfo& info) {
    const auto masks = info[1].As<Napi::Uint8Array>();
    const bool exact_reads = info[2].As<Napi::Boolean>().Value();
    guard([&] {
      engine().set_watch(address(info[0]), masks.Data(), masks.ElementLength(), exact_reads);
    });
  }
  void set_stop_watch(const Napi::CallbackInfo& info) {
    const uint8_t bits = static_cast<uint8_t>(info[2].As<Napi::Number>().Uint32Value());
    guard([&] { engine().set_stop_watch(address(info[0]), address(info[1]), bits); });
  }
  // BigUint64Array of [address, value, rip, size | kind << 8] for each access.
  Napi::Value take_accesses(const Napi::CallbackInfo&) {
    const auto taken = guard([&] { return engine().take_accesses(); });
    auto result = Napi::BigUint64Array::New(Env(), taken.size() * 4);
    for (size_t at = 0; at < taken.size(); at++) {
      result[at * 4] = taken[at].address;
      result[at * 4 + 1] = taken[at].value;
      result[at * 4 + 2] = taken[at].rip;
      result[at * 4 + 3] = taken[at].size_and_kind;
    }
    return result;
  }
  void take_dirty(const Napi::CallbackInfo& info) {
    guard([&] { engine().take_dirty(info[0].As<Napi::Uint8Array>().Data()); });
  }
  void read_vectors(const Napi::CallbackInfo& info) {
    auto bytes = info[0].As<Napi::Uint8Array>();
    if (bytes.ElementLength() != 256) throw Napi::RangeError::New(Env(), "not 256 bytes");
    guard([&] { engine().read_vectors(bytes.Data()); });
  }
  void write_vectors(const Napi::CallbackInfo& info) {
    const auto bytes = info[0].As<Napi::Uint8Array>();
    if (bytes.ElementLength() != 256) throw Napi::RangeError::New(Env(), "not 256 bytes");
    guard([&] { engine().write_vectors(bytes.Data()); });
  }
  void forget() {
    if (engine_ == nullptr) return;
    engine_.reset();
    Napi::MemoryManagement::AdjustExternalMemory(Env(), -kEngineBytes);
  }
  void dispose(const Napi::CallbackInfo&) {
    forget();
    kept_.clear();
    vmcs_kept_.clear();
  }

  std::unique_ptr<Engine> engine_;
  std::vector<Napi::ObjectReference> kept_;
  std::vector<Napi::ObjectReference> vmcs_kept_;
};

Napi::Value version(const Napi::CallbackInfo& info) {
  unsigned major, minor;
  const unsigned packed = uc_version(&major, &minor);
  return Napi::String::New(info.Env(), std::to_string(major) + "." + std::to_string(minor) + "." +
                                           std::to_string((packed >> 8) & 0xff));
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("NativeMemory", Memory::define(env));
  exports.Set("NativeEngine", NativeEngine::define(env));
  exports.Set("version", Napi::Function::New(env, version));
  return exports;
}

}  // namespace

NODE_API_MODULE(caretaker_engine, init)

}  // namespace caretaker
