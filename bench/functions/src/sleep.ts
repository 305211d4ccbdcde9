// Holds its slot for a second.
export default async (): Promise<Response> => {
  await new Promise((done) => setTimeout(done, 1000));
  return new Response("done\n");
};
