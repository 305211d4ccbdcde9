// Node with nothing around it: `node node_raw.js PORT`.
require("node:http")
  .createServer((request, response) => response.end("hello\n"))
  .listen(Number(process.argv[2]), "127.0.0.1");
