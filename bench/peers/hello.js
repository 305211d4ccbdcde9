// What one starts by hand: `bun hello.js SOCKET`, already plain JavaScript, as a deployed bundle is.
Bun.serve({ unix: process.argv[2], fetch: () => new Response("hello\n") });
