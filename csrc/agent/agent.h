/* The agent: pid 1 of a machine that runs one program of a container's image. Read agent.c first. */
#ifndef MINIVM_AGENT_H
#define MINIVM_AGENT_H

#include <sys/types.h>

#define EXIT_OURS 125        /* docker's numbers: our own failure, */
#define EXIT_CANNOT_RUN 126  /* the program is there and cannot be run, */
#define EXIT_NOT_FOUND 127   /* there is no such program */

/* What the agent is told (settings.c). Strings and arrays belong to the settings; arrays end with NULL. */
struct settings {
    const char *hostname;
    const char *type;      /* file system of the root disk; NULL: the initramfs is the root */
    const char *cwd;
    const char *user;      /* USER[:GROUP], names or numbers; NULL: root */
    int read_only;         /* the root disk may not be written to */
    int terminal;          /* somebody sits at the console: echo, line editing, ctrl-C */
    int stop;              /* the signal that asks the program to end */
    char **modules, **args, **env;
    char **shares;         /* directories of the host: tags of virtio-fs, and paths where they are mounted */
};

/* settings.c */
int settings_read(const char *path, struct settings *settings);

/* root.c */
int root_begin(void);
void make_directory(const char *path);
void root_modules(char **names);
int root_enter(const struct settings *settings);
int root_console(const struct settings *settings);
void root_leave(void);

/* user.c */
struct user {
    uid_t uid;
    gid_t gid;
    gid_t groups[64];
    int count;             /* of groups */
    char home[256];
};
int user_find(const char *text, struct user *user);

/* program.c */
int program_run(const struct settings *settings);

/* agent.c */
void say(const char *text, const char *more, int error);

#endif
