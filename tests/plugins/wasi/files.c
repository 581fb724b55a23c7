// A guest that uses files by its libc alone, with relative and with absolute paths. Its answer's result is a line for
// each thing done: what came of it, or the error. The request is a list of commands, one a line: a word and a path, or two.
// Built with: zig cc -target wasm32-wasi -mexec-model=reactor -O2 -s -Wl,-z,stack-size=65536 -o files.wasm files.c

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXPORT(name) __attribute__((export_name(name)))

static char answer[8192];

EXPORT("allocate") void *allocate(int length) { return malloc(length + 1); }

static void say(const char *what) {
    if (answer[strlen(answer) - 1] != '[')
        strcat(answer, ",");
    strcat(strcat(strcat(answer, "\""), what), "\"");
}

static void tell(int failed) { say(failed ? strerror(errno) : "done"); }

static void read_all(const char *path) {
    char text[256] = "";
    FILE *file = fopen(path, "r");
    if (!file)
        return tell(1);
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    say(text);
}

static void write_all(const char *path, const char *mode, const char *text) {
    FILE *file = fopen(path, mode);
    if (!file)
        return tell(1);
    int failed = fputs(text, file) < 0;
    failed |= fsync(fileno(file));
    tell(fclose(file) || failed);
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static void list(const char *path) {
    char text[4096] = "";
    struct dirent **names;
    int count = scandir(path, &names, NULL, by_name);
    if (count < 0)
        return tell(1);
    for (int i = 0; i < count; i++)
        strcat(strcat(text, i ? " " : ""), names[i]->d_name);
    say(text);
}

static void count(const char *path) {
    char text[32];
    int names = 0;
    DIR *directory = opendir(path);
    if (!directory)
        return tell(1);
    while (readdir(directory))
        names++;
    snprintf(text, sizeof text, "%d", names);
    closedir(directory);
    say(text);
}

static void measure(const char *path) {
    char text[64];
    struct stat found;
    if (stat(path, &found))
        return tell(1);
    snprintf(text, sizeof text, "%s %lld", S_ISDIR(found.st_mode) ? "directory" : "file", (long long)found.st_size);
    say(text);
}

static void patch(const char *path) {
    char text[4] = "";
    int file = open(path, O_RDWR);
    if (file < 0)
        return tell(1);
    lseek(file, -2, SEEK_END);
    write(file, "!", 1);
    pread(file, text, 3, 0);
    close(file);
    say(text);
}

static void run(const char *command, const char *path, const char *more) {
    switch (command[0]) {
    case 'r': read_all(path); break;
    case 'w': write_all(path, "w", more); break;
    case 'a': write_all(path, "a", more); break;
    case 'l': list(path); break;
    case 'c': count(path); break;
    case 's': measure(path); break;
    case 'p': patch(path); break;
    case 'm': tell(mkdir(path, 0777)); break;
    case 'd': tell(rmdir(path)); break;
    case 'u': tell(unlink(path)); break;
    case 'n': tell(rename(path, more)); break;
    case 'k': tell(link(path, more)); break;
    case 'y': tell(symlink(path, more)); break;
    case 't': tell(truncate(path, atoi(more))); break;
    default: abort();
    }
}

EXPORT("handle_request") long long handle_request(char *request, int length) {
    request[length] = 0;  // `allocate` left room for it
    strcpy(answer, "{\"success\":true,\"error\":null,\"result\":[");
    for (char *line = strtok(request, "\n"); line; line = strtok(NULL, "\n")) {
        char command[16] = "", path[256] = "", more[256] = "";
        sscanf(line, "%15s %255s %255s", command, path, more);
        run(command, path, more);
    }
    strcat(answer, "]}");
    return (long long)(size_t)answer << 32 | strlen(answer);
}
