// A bundle of about 1.5 MB, of the size that functions with a few packages have.
import { S3Client } from "@aws-sdk/client-s3";
import { Hono } from "hono";
import lodash from "lodash";
import { z } from "zod";

const name = z.string().default("hello");
const app = new Hono();
app.all("*", (context) => context.text(`${lodash.lowerCase(name.parse(undefined))}\n`));

export const client = S3Client;
export default (request: Request) => app.fetch(request);
