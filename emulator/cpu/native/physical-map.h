// What Unicorn finds at each physical address: model memory, the engine's copy of code, or a watched page.
//
// Invariant: the segments cover [0, memory size) without gap or overlap. Segments are always removed whole, because
// Unicorn's own splitting of a region differs between versions.
#ifndef CARETAKER_PHYSICAL_MAP_H
#define CARETAKER_PHYSICAL_MAP_H

#include <unicorn/unicorn.h>

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>

namespace caretaker {

// A refusal by libunicorn that no argument of ours should cause.
class UnicornError : public std::runtime_error {
 public:
  UnicornError(const char* what, uc_err error)
      : std::runtime_error(std::string(what) + ": " + uc_strerror(error)) {}
};

inline void check(uc_err error, const char* what) {
  if (error != UC_ERR_OK) throw UnicornError(what, error);
}

enum class SegmentKind { kMemory, kCode, kWatched };

// The callbacks of watched pages; `user` is what they get.
struct WatchCallbacks {
  uint64_t (*read)(uc_engine*, uint64_t offset, unsigned size, void* user);
  void (*write)(uc_engine*, uint64_t offset, unsigned size, uint64_t value, void* user);
};

class PhysicalMap {
 public:
  PhysicalMap(uc_engine* uc, uint8_t* memory, uint64_t size);

  // Puts `host` behind [base, base + size), or model memory again when kind is kMemory.
  void place(uint64_t base, uint64_t size, SegmentKind kind, uint8_t* host);
  // One page whose accesses go through the callbacks; those that `permissions` refuses to Unicorn's protection hooks first.
  void watch_page(uint64_t base, const WatchCallbacks& callbacks, void* user, uint32_t permissions);

 private:
  struct Segment {
    uint64_t size;
    SegmentKind kind;
    uint8_t* host;
  };

  void carve(uint64_t base, uint64_t size);
  void add(uint64_t base, const Segment& segment);

  uc_engine* uc_;
  uint8_t* memory_;
  std::map<uint64_t, Segment> segments_;
};

}  // namespace caretaker

#endif
