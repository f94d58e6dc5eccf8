/* A client in C: hiredis_client SOCKET-PATH, or hiredis_client HOST PORT USER PASSWORD.
 * Runs commands, a pipeline and a transaction; prints "ok" and leaves with 0 if all went well. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static redisContext *context;

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, context && context->err ? context->errstr : "wrong reply");
    exit(1);
}

static redisReply *next(void) {
    redisReply *reply = NULL;
    if (redisGetReply(context, (void **)&reply) != REDIS_OK) fail("redisGetReply");
    return reply;
}

static void expect_text(redisReply *reply, int type, const char *text) {
    if (!reply || reply->type != type || strcmp(reply->str, text)) fail(text);
    freeReplyObject(reply);
}

static void expect_number(redisReply *reply, long long number) {
    if (!reply || reply->type != REDIS_REPLY_INTEGER || reply->integer != number) fail("number");
    freeReplyObject(reply);
}

int main(int count, char **words) {
    context = count < 3 ? redisConnectUnix(words[1]) : redisConnect(words[1], atoi(words[2]));
    if (!context || context->err) fail("connect");
    if (count > 4)
        expect_text(redisCommand(context, "AUTH %s %s", words[3], words[4]),
                    REDIS_REPLY_STATUS, "OK");
    expect_text(redisCommand(context, "SET %s %b", "c:key", "a\0b", (size_t)3),
                REDIS_REPLY_STATUS, "OK");
    redisReply *reply = redisCommand(context, "GET c:key");
    if (!reply || reply->type != REDIS_REPLY_STRING || reply->len != 3 ||
        memcmp(reply->str, "a\0b", 3))
        fail("GET");
    freeReplyObject(reply);
    expect_number(redisCommand(context, "DEL c:n c:absent"), 0);
    for (int i = 0; i < 10000; i++) redisAppendCommand(context, "INCR c:n");
    for (int i = 0; i < 10000; i++) expect_number(next(), i + 1);
    expect_text(redisCommand(context, "INCR c:key"), REDIS_REPLY_ERROR,
                "ERR value is not an integer or out of range");
    redisAppendCommand(context, "MULTI");
    redisAppendCommand(context, "GET c:n");
    redisAppendCommand(context, "DEL c:n c:key");
    redisAppendCommand(context, "EXEC");
    expect_text(next(), REDIS_REPLY_STATUS, "OK");
    expect_text(next(), REDIS_REPLY_STATUS, "QUEUED");
    expect_text(next(), REDIS_REPLY_STATUS, "QUEUED");
    reply = next();
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
        strcmp(reply->element[0]->str, "10000") || reply->element[1]->integer != 2)
        fail("EXEC");
    freeReplyObject(reply);
    reply = redisCommand(context, "GET c:key");
    if (!reply || reply->type != REDIS_REPLY_NIL) fail("GET of an absent key");
    freeReplyObject(reply);
    redisFree(context);
    puts("ok");
    return 0;
}
