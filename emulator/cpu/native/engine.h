// One pCPU's engine: a Unicorn instance over the machine's memory, answering hot sites in line and stopping at the rest.
//
// Invariant: at every stop RIP, RFLAGS and the counters are exact and the instruction at RIP has not been executed.
// Not modelled: anything of the CPU but general registers, RIP, RFLAGS, FS and GS base, and the vector registers.
#ifndef CARETAKER_ENGINE_H
#define CARETAKER_ENGINE_H

#include <unicorn/unicorn.h>

#include <array>
#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

#include "code-map.h"
#include "page-tables.h"
#include "physical-map.h"
#include "shared-memory.h"

namespace caretaker {

// What run() returns; engine.ts has the same numbers.
enum class Stop : int {
  kSite = 0,
  kException = 1,
  kMemory = 2,
  kInvalid = 3,
  kBreakpoint = 4,
  kLimit = 5,
  kWatch = 7,        // behind an instruction that made an access to stop at
  kWrittenCode = 6,  // the code was written by itself: JavaScript sweeps again and goes on
  kControlProtection = 8,  // at a RET whose shadow stack says otherwise, or where ENDBR64 is missing
  kShadowStack = 9,        // at a CALL or RET whose shadow stack cannot be accessed
};

// Slots of the shared buffers; native-binding.ts has the same numbers.
namespace slot {
enum Register { kRsp = 4, kRip = 16, kRflags = 17, kFsBase = 18, kGsBase = 19, kHeld = 18, kSsp = 28 };
enum Counter { kInstructions, kBlocks, kStores, kVmreads, kVmwrites, kRdtscs, kTraceHead, kTscBase,
               kAccesses, kLoggedWrites, kCet, kTracker, kHeldReturns };
enum Info { kAddress, kAccess, kSize, kVector, kReason, kSite, kErrorCode, kAccessRip };
}  // namespace slot

enum Access : uint64_t { kFetch = 0, kRead = 1, kWrite = 2 };
enum Reason : uint64_t { kUnmapped = 0, kProtection = 1, kNonCanonical = 2 };

constexpr uint32_t kTraceEntries = 1024;
constexpr uint32_t kCoverageBytes = 65536;
constexpr uint16_t kNoField = 0xffff;
// Outside model memory and the tables: Unicorn 2.0.1 flushes its TLB only when its map changes.
constexpr uint64_t kFlushPage = TableArena::kBase + TableArena::kSize;

// Buffers that JavaScript owns and keeps alive as long as the engine.
struct SharedBuffers {
  uint64_t* registers;
  double* counters;
  uint64_t* info;
  uint8_t* coverage;
  uint32_t* edges;  // how many counts of the map are not 0, then their places
  uint64_t* trace;
};

// What of control-flow enforcement is on; engine.ts has the same numbers.
enum Cet : uint8_t { kShadowStacks = 1, kEndbranch = 2, kNoTrack = 4 };

// The near branch that ends a block, as control-flow enforcement sees it.
struct Branch {
  enum Kind : uint8_t { kNone, kCall, kReturn, kJump };
  Kind kind = kNone;
  uint8_t length = 0;
  bool is_indirect = false;
  bool has_no_track = false;
  uint16_t release = 0;  // bytes that a RET takes off the stack besides its address
};

// A VMCS as the in-line answers see it: dense slots and what may be done with each.
struct BoundVmcs {
  enum Flag : uint8_t { kReadable = 1, kWritable = 2, kPoison = 4, kWritten = 8 };
  uint64_t* values = nullptr;
  uint8_t* flags = nullptr;
  uint16_t* written = nullptr;
  uint32_t* written_count = nullptr;
  uint32_t slots = 0;
};

struct AccessRecord {
  uint64_t address, value, rip, size_and_kind;
};

class Engine {
 public:
  Engine(std::shared_ptr<SharedMemory> memory, const SharedBuffers& buffers);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  Stop run(double limit);
  // Executes the one instruction at RIP with its true bytes, though it be a site.
  Stop step_native();

  uint32_t create_space(const std::vector<LinearRange>& ranges);
  void activate_space(uint32_t id);
  void dispose_space(uint32_t id);

  // Replaces what is known of [base, base + size): whole pages.
  void define_code(uint64_t base, uint64_t size, const uint8_t* flags,
                   std::vector<CodeSite> sites);
  // [base, base + size) is data again.
  void remove_code(uint64_t base, uint64_t size);
  void set_breakpoint(uint64_t address, bool on);

  void bind_vmcs(const BoundVmcs& vmcs) { vmcs_ = vmcs; }
  void set_slot_table(const uint16_t* table) { slot_of_ = table; }

  // Bit 0 of a mask byte watches reads, bit 1 writes. Pages without a watched byte go back to full speed. Reads whose
  // record has the RIP of their block are ten times faster than those with their own.
  void set_watch(uint64_t base, const uint8_t* masks, uint64_t size, bool exact_reads);
  std::vector<AccessRecord> take_accesses();
  // Stops behind each instruction that reads (bit 0) or writes (bit 1) a byte of [base, base + size); 0 ends that.
  // From 2.1 on only: before, nothing tells the instruction.
  void set_stop_watch(uint64_t base, uint64_t size, uint8_t bits);

  // Marks each page written since the last call, in any address space.
  void take_dirty(uint8_t* page_flags);
  // engine-snapshot.cc. Where the flow of blocks stands: kFlowWords numbers.
  static constexpr size_t kFlowWords = 8;
  void save_flow(double* words) const;
  void restore_flow(const double* words);
  // XMM0 to XMM15, then x87 and MXCSR; as they were made while nothing used them.
  static constexpr size_t kExtendedBytes = 16 * 16 + 12 * 16;
  bool is_extended_used() const { return is_extended_used_; }
  void read_extended(uint8_t* bytes);
  void write_extended(const uint8_t* bytes);
  void read_vectors(uint8_t* bytes);
  void write_vectors(const uint8_t* bytes);

 private:
  enum class Pending {
    kNone, kNear, kInlineRefused, kMisaligned, kNotExecutable, kInterrupt, kWatch, kBranch
  };
  enum class Outcome { kStopped, kStepped, kNear };
  enum class BranchRefusal { kMismatch, kPush, kPop, kNoEndbranch };
  // What the sweep says of a whole block of Unicorn's, two a cache line: a run enters some eighty blocks an exit.
  struct alignas(32) KnownBlock {
    static constexpr uint32_t kNone = UINT32_MAX;
    uint32_t address = kNone;
    // Bytes of Unicorn's block, and those of it that lie in the range.
    uint16_t size = 0, size_in_range = 0;
    CodeRange* range = nullptr;
    uint16_t instructions = 0, stores = 0;
    uint16_t location = 0;
    uint8_t flags = 0;
    // Where a run goes on that ends with the block: so far behind its end, behind the filler of an in-line site.
    uint8_t filler = 0;
    // Of the in-line site that ends the block, among the range's; -1 for none.
    int32_t site = -1;
    bool begins_with_breakpoint = false;
  };
  // Registers of a VMREAD or VMWRITE: `encoding` in reg, `value` in rm.
  struct Operands {
    uint64_t encoding, value, rflags;
  };
  static constexpr uint64_t kNoPage = UINT64_MAX;
  struct WatchedPage {
    Engine* engine;
    uint64_t base;
    uc_hook hook;
    bool logs_reads;  // in the callback: Unicorn's map does not refuse them first
    // One a byte, and none behind the page.
    std::array<uint8_t, kPageSize + 8> masks;
    std::array<uint8_t, kPageSize> stops;
    bool has_stops;
    // Whether any of up to eight bytes is watched for this kind of access.
    bool watches(Access kind, uint64_t offset, uint64_t size) const;
  };

  // engine.cc
  void add_hooks();
  void set_register(int id, uint64_t value);
  uint64_t get_register(int id);
  Stop finish(Stop stop);
  Outcome go(bool step);
  Outcome stopped(Stop stop);
  Outcome on_interrupt_stop(bool step, bool own_trap_flag);
  Outcome on_page_fault();
  Outcome on_watch_stop();
  Outcome store_to_code(uint64_t address);
  Outcome on_stop_byte();
  Outcome step_over_breakpoint();
  // Whether the run has stopped at this breakpoint and goes on.
  bool is_skipped(uint64_t address) const {
    return skipped_breakpoint_ == address && skipped_at_count_ == executed_;
  }
  Outcome step_with(uint64_t length, const uint8_t* bytes);
  void load_registers(bool step);
  void store_registers(bool step);
  // False when the block ended with a branch that is refused; `rip` is where a whole block has led.
  bool retire_current(uint64_t rip, bool is_whole);
  Outcome memory_stop(Access access, Reason reason, uint64_t address, uint64_t size);
  void forget_exception(int32_t* error_code);
  // `is_map_changed` is false when only the tables that are walked are others.
  void flush_tlb(bool is_map_changed = true);
  void drop_translations(uint64_t base, uint64_t size);
  CodeRange* code_at(uint64_t address);
  void allow(CodeRange& range);
  void apply_breakpoints(CodeRange& range);

  // engine-hooks.cc
  static void block_hook(uc_engine*, uint64_t address, uint32_t size, void* user);
  static void syscall_hook(uc_engine*, void* user);
  static void interrupt_hook(uc_engine*, uint32_t vector, void* user);
  static bool unmapped_hook(uc_engine*, uc_mem_type, uint64_t address, int size, int64_t value,
                            void* user);
  static bool fetch_hook(uc_engine*, uc_mem_type, uint64_t address, int size, int64_t value,
                         void* user);
  void on_block(uint64_t address, uint32_t size);
  const KnownBlock* learn_block(KnownBlock& known, uint64_t address, uint32_t size);
  bool continues_repetition(const KnownBlock& known);
  void retire_block();
  bool may_execute(const KnownBlock& known);
  void forget_blocks();
  void cover(const KnownBlock& block);
  void on_inline_site();
  Operands operands_of(const CodeSite& site, bool is_write);
  bool inline_vmread(const CodeSite& site);
  bool inline_vmwrite(const CodeSite& site);
  void inline_rdtsc();
  void halt(Pending why, uint64_t address);

  // engine-cet.cc
  bool follow_branch(uint64_t target);
  bool follow_call();
  bool follow_return(uint64_t target);
  bool refuse_branch(BranchRefusal why, uint64_t address);
  bool accepts_target(uint64_t address);
  uint8_t* shadow_stack(uint64_t address);
  Outcome branch_stop();

  // engine-watch.cc
  static bool protected_hook(uc_engine*, uc_mem_type, uint64_t address, int size, int64_t value,
                             void* user);
  static uint64_t watched_read(uc_engine*, uint64_t offset, unsigned size, void* user);
  static void watched_write(uc_engine*, uint64_t offset, unsigned size, uint64_t value, void* user);
  WatchedPage& watched_page(uint64_t page, bool logs_reads);
  void forget_unused(WatchedPage& watched);
  // Whether the access is one to stop at; the run is then on its way out.
  bool is_to_stop(Access kind, uint64_t address, uint64_t size);
  void log_access(const WatchedPage& page, Access kind, uint64_t address, uint64_t size,
                  uint64_t value);
  static void memory_hook(uc_engine*, uc_mem_type, uint64_t address, int size, int64_t value,
                          void* user);
  void on_watched_access(bool is_read, uint64_t address, uint64_t size, uint64_t value);

  std::shared_ptr<SharedMemory> memory_;
  SharedBuffers shared_;
  uc_engine* uc_ = nullptr;
  uc_context* context_ = nullptr;
  bool is_2_0_;
  bool is_extended_used_ = false;
  TableArena arena_;
  std::unique_ptr<PageTables> empty_;
  std::unordered_map<uint32_t, std::unique_ptr<PageTables>> spaces_;
  PageTables* active_ = nullptr;
  // Pages that disposed address spaces had written.
  std::vector<uint64_t> written_elsewhere_;
  uint32_t next_space_ = 1;
  std::unique_ptr<PhysicalMap> map_;
  bool flush_toggle_ = false;
  bool is_map_changed_ = true;

  std::vector<std::unique_ptr<CodeRange>> ranges_;
  CodeRange* last_range_ = nullptr;
  uint32_t next_ordinal_ = 0;
  std::set<uint64_t> breakpoints_;
  uint64_t skipped_breakpoint_ = UINT64_MAX;
  uint64_t skipped_at_count_ = 0;

  BoundVmcs vmcs_;
  const uint16_t* slot_of_ = nullptr;

  // The registers as Unicorn has them, so that only changed ones are written.
  std::array<uint64_t, 20> held_{};

  // The run.
  uint64_t executed_ = 0, stores_ = 0, blocks_ = 0, limit_ = 0;
  struct Block {
    CodeRange* range = nullptr;
    uint64_t start = 0, end = 0, resume = 0;
    uint32_t instructions = 0, stores = 0;
    int32_t site = -1;
  } block_;
  // The page of the last block, which the active address space may execute.
  uint64_t executable_page_ = kNoPage;
  static constexpr size_t kKnownBlocks = 2048;
  std::vector<KnownBlock> known_blocks_{kKnownBlocks};
  KnownBlock& known_block(uint64_t address) {
    return known_blocks_[(address ^ (address >> 11)) % kKnownBlocks];
  }
  // The block before: its range during a run, and the addresses where a block would only continue it.
  CodeRange* previous_range_ = nullptr;
  uint64_t previous_end_ = UINT64_MAX, previous_resume_ = UINT64_MAX;
  uint64_t inline_resume_ = UINT64_MAX;
  uint32_t previous_location_ = 0;
  uint32_t trace_head_ = 0;
  Pending pending_ = Pending::kNone;
  uint64_t pending_address_ = 0;
  uint32_t pending_vector_ = 0;
  std::vector<uint64_t> filler_pages_;
  struct {
    bool is_set = false;
    Access access = kRead;
    Reason reason = kUnmapped;
    uint64_t address = 0, size = 0;
  } refused_;
  Stop stop_ = Stop::kLimit;

  // Control-flow enforcement: what is on, whether an indirect branch waits for its ENDBR64, the shadow-stack range in use.
  uint8_t cet_ = 0;
  bool is_waiting_ = false;
  Branch branch_;
  struct {
    BranchRefusal why;
    uint64_t address;
  } refused_branch_{};
  const LinearRange* shadow_range_ = nullptr;
  uint64_t marked_page_ = UINT64_MAX;

  std::unordered_map<uint64_t, std::unique_ptr<WatchedPage>> watched_;
  std::vector<AccessRecord> accesses_;
  uint64_t split_base_ = 0, split_left_ = 0;
  // The instruction that was stopped before its access is being executed.
  bool is_past_watch_ = false;
};

}  // namespace caretaker

#endif
