// Says in a file that it runs, and runs longer than anybody measures.
import { appendFileSync } from "node:fs";

export default async (request: Request): Promise<Response> => {
  appendFileSync(new URL(request.url).searchParams.get("file")!, "here\n");
  await new Promise((done) => setTimeout(done, 30_000));
  return new Response("done\n");
};
