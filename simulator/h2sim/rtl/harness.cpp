// Test bench of one engine under Verilator; the compiled twin of bench.py's _drive. ports.h names the engine's ports.
// usage: engine CASES RUNS (files of int64 words; layouts: bench.py, _bytes and VerilatorBench.run)
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <type_traits>
#include <algorithm>
#include <vector>

#include "Engine.h"
#include "ports.h"
#include "verilated.h"
#if BOXED
#include "Engine___024root.h"
#endif

namespace {

constexpr int kCountBits = 16;
constexpr int kLatest = 120;  // cycles by which a half may be late
constexpr int64_t kMostCycles = 50000000;

uint64_t low_mask(int bits) { return bits >= 64 ? ~0ull : (1ull << bits) - 1; }

// Bits of a Verilator port, which is an integer up to 64 bits and an array of 32-bit words above.
template <typename T> uint64_t get(const T& port, int low, int bits) { return (uint64_t(port) >> low) & low_mask(bits); }
template <std::size_t N> uint64_t get(const VlWide<N>& port, int low, int bits) {
    uint64_t value = 0;
    for (int done = 0; done < bits;) {
        const int at = low + done, take = std::min(32 - at % 32, bits - done);
        value |= ((uint64_t(port[at / 32]) >> (at % 32)) & low_mask(take)) << done;
        done += take;
    }
    return value;
}
template <typename T> void put(T& port, int low, int bits, uint64_t value) {
    const uint64_t mask = low_mask(bits) << low;
    port = T((uint64_t(port) & ~mask) | ((value << low) & mask));
}
template <std::size_t N> void put(VlWide<N>& port, int low, int bits, uint64_t value) {
    for (int done = 0; done < bits;) {
        const int at = low + done, take = std::min(32 - at % 32, bits - done);
        const uint32_t mask = uint32_t(low_mask(take)) << (at % 32);
        port[at / 32] = (port[at / 32] & ~mask) | ((uint32_t(value >> done) << (at % 32)) & mask);
        done += take;
    }
}

// The type that Verilator gives a signal of so many bits.
template <int bits> using Bits = std::conditional_t<(bits > 64), VlWide<(bits + 31) / 32>,
    std::conditional_t<(bits > 32), QData, std::conditional_t<(bits > 16), IData, std::conditional_t<(bits > 8), SData, CData>>>>;

struct Words {
    std::vector<int64_t> all;
    std::size_t at = 0;
    int64_t next() { return all.at(at++); }
    bool more() const { return at < all.size(); }
};

struct Image {
    std::vector<int64_t> extents, strides;
    const int64_t* words = nullptr;

    void read(Words& in, int axes) {
        extents.clear(), strides.clear();
        for (int i = 0; i < axes; i++) extents.push_back(in.next());
        for (int i = 0; i < axes; i++) strides.push_back(in.next());
        const int64_t size = in.next();
        words = in.all.data() + in.at;
        in.at += size;
    }
    // Index of one axis added to an address; -1 once it is outside the image.
    int64_t step(int64_t address, int axis, int64_t index) const {
        return address < 0 || index >= extents[axis] ? -1 : address + index * strides[axis];
    }
    uint64_t at(int64_t address) const { return address < 0 ? 0 : uint64_t(words[address]); }
};

template <typename S> int64_t shared_address(const Image& image, const S& shared, int count) {
    int64_t address = 0;
    for (int i = 0; i < count; i++) address = image.step(address, i, int64_t(get(shared, i * kCountBits, kCountBits)));
    return address;
}

struct Half {
    std::vector<int64_t> due;
    bool take(int64_t cycle) {
        for (std::size_t i = 0; i < due.size(); i++)
            if (due[i] <= cycle) return due.erase(due.begin() + i), true;
        return false;
    }
};

struct Bench {
    std::unique_ptr<Engine> top{new Engine};
    Words in;
#define X(name, lanes, width, ...) Image name##_image; Bits<(lanes) * (width)> name##_next{};
    SHARED_PORTS(X) OWN_PORTS(X)
#undef X
#define X(name) Half name##_half;
    HALVES(X)
#undef X

    void edge() {
        top->clk = 1, top->eval();
        top->clk = 0;
    }

    void serve() {
#define X(name, lanes, width, shared, sharers)                                                              \
    {                                                                                                       \
        const int64_t base = shared_address(name##_image, AT_##name##_shared, shared);                      \
        for (int lane = 0; lane < lanes; lane++)                                                            \
            put(name##_next, lane * width, width, name##_image.at(name##_image.step(base, shared, lane / sharers))); \
    }
        SHARED_PORTS(X)
#undef X
#define X(name, lanes, width, shared, sharers, first, second)                                               \
    {                                                                                                       \
        const int64_t base = shared_address(name##_image, AT_##name##_shared, shared);                      \
        for (int lane = 0; lane < lanes; lane++) {                                                          \
            const int low = lane * (first + second);                                                        \
            int64_t address = name##_image.step(base, shared, lane / sharers);                              \
            address = name##_image.step(address, shared + 1, int64_t(get(AT_##name##_own, low, first)));    \
            if (second) address = name##_image.step(address, shared + 2, int64_t(get(AT_##name##_own, low + first, second))); \
            put(name##_next, lane * width, width, name##_image.at(address));                                \
        }                                                                                                   \
    }
        OWN_PORTS(X)
#undef X
    }

    void run(std::FILE* out);
};

void store(const Engine& top, int lanes, int width, int counters, const std::vector<int64_t>& shape, std::vector<int64_t>& results) {
    int64_t address = 0;
    for (int i = 0; i < counters; i++) address = address * shape[i] + int64_t(get(top.results_shared, i * kCountBits, kCountBits));
    for (int lane = 0; lane < lanes; lane++)
        results.at(address * lanes + lane) = int64_t(get(top.results_data, lane * width, width));
}

void Bench::run(std::FILE* out) {
    const int result_format[] = {RESULTS};
#define X(name, bits) put(top->name, 0, bits, uint64_t(in.next()));
    CONFIG(X)
#undef X
#define X(name, lanes, width, shared, sharers) name##_image.read(in, shared + 1);
    SHARED_PORTS(X)
#undef X
#define X(name, lanes, width, shared, sharers, first, second) name##_image.read(in, shared + 2 + (second > 0));
    OWN_PORTS(X)
#undef X
    std::vector<int64_t> shape, iterations;
    int64_t size = result_format[0];
    for (int i = 0; i < result_format[2]; i++) shape.push_back(in.next()), size *= shape.back();
    std::vector<int64_t> results(size, 0);
    uint64_t random = uint64_t(in.next());
    const bool stalls = random != 0;
    top->start = 0, top->rst = 1, top->eval(), edge(), edge();
    top->rst = 0;
#define X(name) name##_half.due.clear(), top->name##_filled = 1;
    HALVES(X)
#undef X
    int64_t compute = 0, last = 0, since = 0, conflicts = 0, overrun = 0, last_compute = 0;
    for (int64_t cycle = -3;; cycle++) {
        if (cycle > kMostCycles) std::fprintf(stderr, "no end after %ld cycles\n", long(cycle)), std::exit(1);
        top->start = cycle == -1;
        top->eval();
        serve();
        if (cycle >= 0) {
            if (top->computing) compute++, since++, last_compute = cycle + 1;
            if (top->iteration_end) iterations.push_back(since), since = 0;
            conflicts += top->adder_conflict;
            overrun |= top->overrun;
            if (top->results_valid) last = cycle, store(*top, result_format[0], result_format[1], result_format[2], shape, results);
            if (top->done) break;
        }
#define X(name)                                                                                       \
    if (top->name##_released) {                                                                       \
        random = random * 6364136223846793005ull + 1442695040888963407ull;                            \
        name##_half.due.push_back(cycle + 1 + (stalls ? int64_t((random >> 33) % kLatest) : 0));           \
    }
        HALVES(X)
#undef X
#define X(name, ...) AT_##name##_data = name##_next;
#if BOXED  // a box has the register of its port
        SHARED_PORTS(X) OWN_PORTS(X)
#endif
        edge();
#if !BOXED
        SHARED_PORTS(X) OWN_PORTS(X)
#endif
#undef X
#define X(name) top->name##_filled = name##_half.take(cycle + 1) || cycle + 1 == -2;
        HALVES(X)
#undef X
    }
    const int64_t head[] = {last, compute, last_compute - compute, conflicts, overrun, int64_t(iterations.size())};
    std::fwrite(head, sizeof(int64_t), 6, out);
    std::fwrite(iterations.data(), sizeof(int64_t), iterations.size(), out);
    std::fwrite(results.data(), sizeof(int64_t), results.size(), out);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) return std::fprintf(stderr, "usage: engine CASES RUNS\n"), 2;
    Bench bench;
    std::FILE* in = std::fopen(argv[1], "rb");
    std::FILE* out = std::fopen(argv[2], "wb");
    if (!in || !out) return std::fprintf(stderr, "cannot open %s or %s\n", argv[1], argv[2]), 2;
    int64_t word;
    std::fseek(in, 0, SEEK_END);
    bench.in.all.resize(std::ftell(in) / sizeof word);
    std::rewind(in);
    if (std::fread(bench.in.all.data(), sizeof word, bench.in.all.size(), in) != bench.in.all.size()) return 2;
    while (bench.in.more()) bench.run(out);
    std::fclose(in);
    return std::fclose(out) ? 2 : 0;
}
