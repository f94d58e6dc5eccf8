// A client in JavaScript: node ioredis_client.js PATH | HOST PORT USER PASSWORD.
// Runs commands, pipelines and transactions by ioredis; prints "ok" if all went well.
"use strict";
const assert = require("node:assert");
const Redis = require("ioredis");

const [first, port, username, password] = process.argv.slice(2);
const where = port ? { host: first, port: Number(port), username, password } : { path: first };

async function main() {
  const redis = new Redis({ ...where, maxRetriesPerRequest: 1 });
  const other = new Redis({ ...where, connectionName: "other" });
  assert.equal(await redis.ping(), "PONG");
  assert.equal(await redis.set("js:key", Buffer.from([0, 255, 13, 10])), "OK");
  assert.deepEqual(await redis.getBuffer("js:key"), Buffer.from([0, 255, 13, 10]));
  assert.equal(await redis.get("js:absent"), null);
  assert.equal(await redis.set("js:key", "x", "EX", 100, "XX", "GET"), "\0\ufffd\r\n");
  assert.ok((await redis.ttl("js:key")) > 90);
  await assert.rejects(redis.incr("js:key"), /ERR value is not an integer or out of range/);
  assert.equal(await other.client("GETNAME"), "other");

  // Commands that are not waited for travel together.
  const numbers = await Promise.all(Array.from({ length: 5000 }, () => redis.incr("js:n")));
  assert.deepEqual(numbers, Array.from({ length: 5000 }, (_, i) => i + 1));

  const piped = await redis.pipeline().mset({ "js:a": 1, "js:b": 2 }).mget("js:a", "js:b").exec();
  assert.deepEqual(piped, [[null, "OK"], [null, ["1", "2"]]]);
  const done = await redis.multi().incr("js:a").get("js:a").exec();
  assert.deepEqual(done, [[null, 2], [null, "2"]]);

  await redis.watch("js:a");
  await other.set("js:a", 9);
  assert.equal(await redis.multi().set("js:a", 3).exec(), null);
  assert.equal(await redis.get("js:a"), "9");

  const found = new Set();
  for await (const keys of redis.scanStream({ match: "js:*", count: 2 })) keys.forEach((k) => found.add(k));
  assert.deepEqual([...found].sort(), ["js:a", "js:b", "js:key", "js:n"]);
  assert.equal(await redis.del(...found), 4);
  await redis.quit();
  other.disconnect();
  console.log("ok");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
