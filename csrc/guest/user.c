/* Two kinds of task, in ring 3. They share one address space, but no variable: all theirs are on their stacks. */
#include "user.h"

#include "task.h"

char user_stacks[TASKS][USER_STACK] __attribute__((aligned(16)));

static u64 length(const char *text)
{
    u64 n = 0;

    while (text[n])
        n++;
    return n;
}

static void say(const char *text)
{
    write(text, length(text));
}

/* Write the decimal digits of a small number to `at`. Returns where they end. */
static char *digits(char *at, u64 value)
{
    if (value >= 10)
        at = digits(at, value / 10);
    *at = '0' + value % 10;
    return at + 1;
}

static char *copy(char *at, const char *text)
{
    while (*text)
        *at++ = *text++;
    return at;
}

/* One call for the whole line: between two calls the other task could put in its own. */
static void say_step(u64 pid, u64 step)
{
    char line[64], *end = line;

    end = digits(copy(end, "task "), pid);
    end = copy(digits(copy(end, ": step "), step), "\n");
    write(line, end - line);
}

/* Count as fast as the processor allows and never give it up: if two of these make progress side by side, it is
 * the timer that takes turns for them. */
void user_count(void)
{
    u64 pid = getpid();

    for (u64 step = 1; step <= 3; step++) {
        u64 until = uptime() + 2;

        while ((u64)uptime() < until)
            for (volatile int spin = 0; spin < 20000; spin++)
                ;
        say_step(pid, step);
    }
    exit(0);
}

/* The status that "exit N" names, or -1 where the line says something else. */
static long exit_status(const char *line, long size)
{
    const char word[] = {'e', 'x', 'i', 't'};
    long status = 0;

    for (int i = 0; i < 4; i++)
        if (i >= size || line[i] != word[i])
            return -1;
    for (int i = 4; i < size && line[i] != '\n'; i++) {
        if (line[i] == ' ')
            continue;
        if (line[i] < '0' || line[i] > '9')
            return -1;
        status = status * 10 + line[i] - '0';
    }
    return status;
}

/* Wait for the others, then say each line back, last letter first. */
void user_echo(void)
{
    char line[256], back[256];
    long size, status;

    wait();
    say("Type a line; `exit N` or ctrl-D powers off.\n");
    for (;;) {
        say("> ");
        size = read(line, sizeof line);
        if (size <= 0)
            break;
        status = exit_status(line, size);
        if (status >= 0)
            exit(status);
        if (line[size - 1] == '\n')
            size--;
        for (long i = 0; i < size; i++)
            back[i] = line[size - 1 - i];
        back[size] = '\n';
        say("backwards: ");
        write(back, size + 1);
    }
    say("\nend of input\n");
    exit(0);
}
