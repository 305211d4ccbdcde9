// Holds its worker for 5 ms.
export default async (): Promise<Response> => {
  await new Promise((done) => setTimeout(done, 5));
  return new Response("done\n");
};
