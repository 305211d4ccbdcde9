// Counts its calls: a context that is fresh for each call never gets past 1.
let calls = 0;
export default (): Response => new Response(String(++calls));
