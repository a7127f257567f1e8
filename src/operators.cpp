// Tells Rust when an operator of libtorch begins and ends: what src/operators.rs says to the trace.

#include <ATen/record_function.h>

namespace {

using Begins = uint64_t (*)();
using Ends = void (*)(const char* name, uint64_t began);

// Set once, before the callbacks are added.
Begins on_begin;
Ends on_end;

struct Began : at::ObserverContext {
  explicit Began(uint64_t at) : at(at) {}
  uint64_t at;
};

std::unique_ptr<at::ObserverContext> begins(const at::RecordFunction&) {
  const uint64_t at = on_begin();
  return at == 0 ? nullptr : std::make_unique<Began>(at);
}

void ends(const at::RecordFunction& function, at::ObserverContext* context) {
  if (context != nullptr) {
    on_end(function.name(), static_cast<const Began*>(context)->at);
  }
}

}  // namespace

extern "C" void trainer_watch_operators(Begins begin, Ends end) noexcept {
  on_begin = begin;
  on_end = end;
  at::addGlobalCallback(at::RecordFunctionCallback(begins, ends)
                            .scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION}));
}
