/* Answers with the SHA-256 of the request, in hexadecimal. */
#include "guest.h"
#include "sha256.h"

static char answered[] =
    "{\"success\":true,\"result\":\"0000000000000000000000000000000000000000000000000000000000000000\",\"error\":null}";

bytes answer(bytes request) {
    uint8_t digest[32];
    char *hex = answered + sizeof "{\"success\":true,\"result\":\"" - 1;
    sha256((const uint8_t *)request.at, request.len, digest);
    for (size_t i = 0; i < 64; i++) hex[i] = "0123456789abcdef"[digest[i / 2] >> (i % 2 ? 0 : 4) & 15];
    return (bytes){answered, sizeof answered - 1};
}
