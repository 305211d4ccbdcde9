// The smallest web handler. The peers serve this very file.
export default (): Response => new Response("hello\n");
