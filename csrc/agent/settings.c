/* The settings: words KEY=VALUE, each ended by a zero byte; `arg`, `env`, `module` and `share` may come many times. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

/* Read a file whole, and one zero byte behind it. Returns it (the caller's to free) with *size, or NULL. */
static char *read_file(const char *path, size_t *size)
{
    struct stat status;
    size_t done = 0;
    ssize_t got = 1;
    char *text = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return NULL;
    if (fstat(fd, &status) == 0)
        text = malloc((size_t)status.st_size + 1);
    while (text && got > 0 && done < (size_t)status.st_size) {
        got = read(fd, text + done, (size_t)status.st_size - done);
        done += got > 0 ? (size_t)got : 0;
    }
    close(fd);
    if (text)
        text[done] = 0;
    *size = done;
    return text;
}

/* Add a word to an array that ends with NULL. Memory that is not there ends the machine: so early there is plenty. */
static void append(char ***array, char *word)
{
    size_t count = 0;

    while (*array && (*array)[count])
        count++;
    *array = realloc(*array, (count + 2) * sizeof **array);
    if (!*array)
        abort();
    (*array)[count] = word;
    (*array)[count + 1] = NULL;
}

static void set(struct settings *s, const char *key, char *value)
{
    if (!strcmp(key, "arg"))
        append(&s->args, value);
    else if (!strcmp(key, "env"))
        append(&s->env, value);
    else if (!strcmp(key, "module"))
        append(&s->modules, value);
    else if (!strcmp(key, "share"))
        append(&s->shares, value);
    else if (!strcmp(key, "hostname"))
        s->hostname = value;
    else if (!strcmp(key, "type"))
        s->type = value;
    else if (!strcmp(key, "cwd"))
        s->cwd = value;
    else if (!strcmp(key, "user"))
        s->user = value;
    else if (!strcmp(key, "ro"))
        s->read_only = 1;
    else if (!strcmp(key, "tty"))
        s->terminal = 1;
    else if (!strcmp(key, "stop"))
        s->stop = atoi(value);
    else
        say("unknown setting", key, 0);
}

/* Read the settings; what they point to lives as long as the process. Returns 0, or -1 after a complaint. */
int settings_read(const char *path, struct settings *settings)
{
    size_t size;
    char *text = read_file(path, &size);

    memset(settings, 0, sizeof *settings);
    settings->cwd = "/";
    settings->stop = SIGTERM;
    if (!text) {
        say("cannot read", path, errno);
        return -1;
    }
    for (char *word = text; word < text + size; word += strlen(word) + 1) {
        char *value = strchr(word, '=');

        if (!value)
            continue;
        *value = 0;
        set(settings, word, value + 1);
        word = value + 1;
    }
    if (!settings->args) {
        say("no program to run", NULL, 0);
        return -1;
    }
    return 0;
}
