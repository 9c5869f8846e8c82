// What the sweep knows of each executable byte, and the copy of the code that Unicorn really runs.
//
// Sites are replaced in the copy: one byte that is no instruction in 64-bit mode where the run must stop, or SYSCALL
// plus NOPs where the binding answers in line. The true bytes stay in model memory.
#ifndef CARETAKER_CODE_MAP_H
#define CARETAKER_CODE_MAP_H

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "shared-memory.h"

namespace caretaker {

// Flags of a byte; sweep.ts has the same numbers.
enum ByteFlag : uint8_t {
  kBoundary = 1,      // an instruction begins here
  kAfterBranch = 2,   // the instruction before transfers control, so a block that begins here is a new one
  kRepeat = 4,        // a repeated string instruction: each iteration is a block of its own in Unicorn
  kStore = 8,         // the instruction writes memory
  kPushFlags = 16,    // PUSHF: a single step must not leave its trap flag on the stack
  kUndefined = 32,    // UD2 and its kin: an exception, not an instruction that nobody knows
  kResume = 64,       // inside a replaced site, where Unicorn goes on after the SYSCALL
};

enum class Inline : uint8_t { kNone = 0, kVmread = 1, kVmwrite = 2, kRdtsc = 3 };

struct CodeSite {
  uint32_t offset;
  uint32_t id;  // index into the sites that JavaScript keeps
  uint8_t length;
  Inline how;
  uint8_t rm;   // general registers by ModRM number
  uint8_t reg;
};

struct ByteInfo {
  uint32_t instructions;  // instructions that begin below this byte
  uint32_t stores;
  int32_t site;           // index into the range's sites, -1 for none
  uint8_t flags;
};

class CodeRange {
 public:
  CodeRange(uint64_t base, uint64_t size, uint32_t ordinal);

  // Takes new flags and sites, and copies and patches the bytes again.
  void define(const uint8_t* true_bytes, const uint8_t* flags, std::vector<CodeSite> sites);
  bool contains(uint64_t address) const { return address - base < size; }
  const ByteInfo& at(uint64_t offset) const { return info_[offset]; }
  ByteInfo& at(uint64_t offset) { return info_[offset]; }
  const CodeSite* site(uint64_t offset) const;
  // The place of the site at an offset, -1 for none.
  int32_t site_index(uint64_t offset) const { return info_[offset].site; }
  const CodeSite& site_of(int32_t index) const { return sites_[static_cast<size_t>(index)]; }
  // The bytes that run at a boundary without regard to breakpoints.
  void write_running(uint64_t offset, uint32_t length, const uint8_t* true_bytes);
  // The first boundary above `offset`.
  uint64_t next_boundary(uint64_t offset) const;
  uint8_t* copy() const { return copy_.bytes(); }

  const uint64_t base;
  const uint64_t size;
  const uint32_t ordinal;
  // One byte a page: whether the active address space may execute it. The space's own.
  const uint8_t* allowed = nullptr;

 private:
  void patch(const CodeSite& site);

  SharedMemory copy_;
  std::vector<ByteInfo> info_;
  std::vector<CodeSite> sites_;
};

// The byte that stops a run: PUSH ES, which 64-bit mode does not have.
constexpr uint8_t kStopByte = 0x06;

}  // namespace caretaker

#endif
