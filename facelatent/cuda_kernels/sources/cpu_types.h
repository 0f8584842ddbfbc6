// float16 and bfloat16 as the CPU kernels see them: storage that converts to and from float.
#pragma once

#include <cstdint>
#include <cstring>

namespace facelatent {

struct BFloat16 {
    uint16_t bits;

    BFloat16() = default;
    BFloat16(float value) {
        uint32_t u;
        std::memcpy(&u, &value, 4);
        const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1)) >> 16;  // to nearest, ties to even
        const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
        bits = (uint16_t)(nan ? (u >> 16) | 0x40u : rounded);
    }
    operator float() const {
        const uint32_t u = (uint32_t)bits << 16;
        float value;
        std::memcpy(&value, &u, 4);
        return value;
    }
};

using Half = _Float16;

}  // namespace facelatent
