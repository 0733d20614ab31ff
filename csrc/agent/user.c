/* Users and groups as an image names them: USER[:GROUP], each a name or a number, looked up in the root's own files.
 *
 * As docker does it (image-spec config.md, User): a number need not be listed; without a group it is the user's own, and
 * the further groups are those that /etc/group lists the user in. */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"

static int number(const char *text, unsigned *value)
{
    char *end;
    unsigned long got = strtoul(text, &end, 10);

    if (!*text || *end || *text == '-' || got >= 0xffffffffUL)
        return 0;
    *value = (unsigned)got;
    return 1;
}

/* Find the line of a user, by name or else by number. Returns 1 where there is one. */
static int find_user(const char *name, struct user *user, char *login, size_t size)
{
    unsigned id = 0;
    int is_number = number(name, &id), found = 0;
    struct passwd *line;
    FILE *file = fopen("/etc/passwd", "re");

    while (file && !found && (line = fgetpwent(file))) {
        if (strcmp(line->pw_name, name) && !(is_number && line->pw_uid == id))
            continue;
        found = 1;
        user->uid = line->pw_uid;
        user->gid = line->pw_gid;
        snprintf(user->home, sizeof user->home, "%s", line->pw_dir);
        snprintf(login, size, "%s", line->pw_name);
    }
    if (file)
        fclose(file);
    if (!found && is_number)
        user->uid = id;
    return found || is_number;
}

/* Find a group by name or number. Returns 1 where there is one. */
static int find_group(const char *name, gid_t *gid)
{
    unsigned id = 0;
    int is_number = number(name, &id), found = 0;
    struct group *line;
    FILE *file = fopen("/etc/group", "re");

    while (file && !found && (line = fgetgrent(file)))
        if (!strcmp(line->gr_name, name)) {
            found = 1;
            *gid = line->gr_gid;
        }
    if (file)
        fclose(file);
    if (!found && is_number)
        *gid = id;
    return found || is_number;
}

/* Add the groups that list a login. */
static void add_groups(const char *login, struct user *user)
{
    struct group *line;
    FILE *file = fopen("/etc/group", "re");

    while (file && (line = fgetgrent(file)))
        for (char **member = line->gr_mem; *member; member++)
            if (!strcmp(*member, login) && user->count < (int)(sizeof user->groups / sizeof *user->groups))
                user->groups[user->count++] = line->gr_gid;
    if (file)
        fclose(file);
}

/* Look a user up. `text` may be NULL, for root. Returns 0, or -1 after a complaint. */
int user_find(const char *text, struct user *user)
{
    char name[128], login[128] = "", *group;

    memset(user, 0, sizeof *user);
    strcpy(user->home, "/");
    snprintf(name, sizeof name, "%s", text && *text ? text : "0");
    group = strchr(name, ':');
    if (group)
        *group++ = 0;
    if (!find_user(*name ? name : "0", user, login, sizeof login)) {
        say("no such user in the image:", name, 0);
        return -1;
    }
    if (group && *group) {
        if (!find_group(group, &user->gid)) {
            say("no such group in the image:", group, 0);
            return -1;
        }
    } else if (*login) {
        add_groups(login, user);
    }
    return 0;
}
