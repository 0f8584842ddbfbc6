#include "abi.h"

FACELATENT_API const char* facelatent_error(int code) {
    const char* text = facelatent_own_error(code);
    return text ? text : "unknown error";
}
