//! A disk that is full for a while, played by a limit on the pages of the database.

use model::{FunctionId, Level, Timestamp, VersionNumber};
use sqlx::{AssertSqlSafe, query, query_scalar};

use super::*;
use crate::records::{RecordSink, sink::Entry};

struct Standing;

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
}

fn line(text: String) -> LogLine {
    LogLine {
        at: Timestamp(0),
        function: FunctionId {
            project: "default".parse().unwrap(),
            name: "hello".parse().unwrap(),
        },
        version: VersionNumber(1),
        invocation: None,
        level: Level::Info,
        is_info: false,
        text,
    }
}

async fn writer_in(folder: &DataFolder) -> (RecordSink, Writer) {
    let path = folder.path().join("records.db");
    let conn = open_file(&path).await.unwrap();
    let (sink, intake) = RecordSink::new(200);
    let readers = Readers {
        pool: database::readers(&path),
        generation: 0,
    };
    let around = Surroundings {
        readers: Arc::new(RwLock::new(readers)),
        written: watch::Sender::new(LogCursor(0)),
        limits: Limits::default(),
        clock: Arc::new(Standing),
        folder: folder.clone(),
        path,
    };
    (sink, Writer::new(around, conn, intake))
}

async fn limit_pages(writer: &mut Writer, pages: u32) {
    let sql = AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
    query(sql)
        .execute(writer.conn.as_mut().unwrap())
        .await
        .unwrap();
}

async fn stored(writer: &mut Writer) -> i64 {
    let count = query_scalar("SELECT count(*) FROM logs");
    count
        .fetch_one(writer.conn.as_mut().unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn while_the_disk_is_full_rows_are_held_and_then_stored() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let (_sink, mut writer) = writer_in(&folder).await;
    limit_pages(&mut writer, 30).await;
    for _ in 0..100 {
        writer
            .take(Entry::Log(Box::new(line("x".repeat(4000)))))
            .await;
    }
    let Err(StoreError::Storage(error)) = writer.store().await else {
        panic!("a hundred pages do not fit into thirty");
    };
    assert_eq!(error.trouble, Trouble::Full);
    assert_eq!((stored(&mut writer).await, writer.stuck), (0, true));

    limit_pages(&mut writer, 1000).await;
    writer.store().await.unwrap();
    assert_eq!((stored(&mut writer).await, writer.stuck), (100, false));
}

#[tokio::test]
async fn no_more_is_held_than_the_limit_and_the_rest_is_counted() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let (_sink, mut writer) = writer_in(&folder).await;
    limit_pages(&mut writer, 30).await;
    for _ in 0..HELD_MAX + 7 {
        writer
            .take(Entry::Log(Box::new(line("x".repeat(100)))))
            .await;
    }
    writer.store().await.unwrap_err();
    limit_pages(&mut writer, 1000).await;
    writer.store().await.unwrap();
    assert_eq!(
        stored(&mut writer).await,
        HELD_MAX as i64 + 1,
        "the held ones and a marker"
    );
    let marker: String = query_scalar("SELECT text FROM logs ORDER BY seq DESC LIMIT 1")
        .fetch_one(writer.conn.as_mut().unwrap())
        .await
        .unwrap();
    assert!(marker.starts_with("7 log lines are missing"), "{marker}");
}
