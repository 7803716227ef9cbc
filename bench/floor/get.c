/* One GET over a daemon's socket, and nothing else: what it costs to ask at all.
 *
 *   floor-get SOCKET PATH
 *
 * Prints the first line of the answer and the number of its bytes. Fails when that line has no 200.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	static char answer[65536], rest[65536];
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t all = 0;
	ssize_t got;

	if (argc != 3 || strlen(argv[1]) >= sizeof address.sun_path) {
		fprintf(stderr, "usage: floor-get SOCKET PATH\n");
		return 2;
	}
	strcpy(address.sun_path, argv[1]);
	int asked = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (asked < 0 || connect(asked, (struct sockaddr *)&address, sizeof address) < 0) {
		perror(argv[1]);
		return 2;
	}
	if (dprintf(asked, "GET %s HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n", argv[2]) < 0) {
		perror("write");
		return 2;
	}
	/* The head of an answer comes in one piece: the daemon writes it at once. */
	got = read(asked, answer, sizeof answer - 1);
	while (got > 0) {
		all += (size_t)got;
		got = read(asked, rest, sizeof rest);
	}
	if (got < 0) {
		perror("read");
		return 2;
	}
	answer[strcspn(answer, "\r\n")] = 0;
	printf("%s, %zu bytes\n", answer, all);
	return strstr(answer, " 200 ") ? 0 : 2;
}
