//! Apache Kafka's jars, fetched once through Maven and kept between runs.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result};

use crate::{folders, run};

/// Version of Apache Kafka that the tests run on.
pub(crate) const KAFKA_VERSION: &str = "4.1.0";
const FETCH_LIMIT: Duration = Duration::from_secs(300);
const FETCH_TRIES: u32 = 3;

/// Whether the jars were fetched already.
pub(crate) fn present() -> bool {
    folder().is_dir()
}

/// Folder of the jars, which are fetched when they are not there.
///
/// # Errors
///
/// Maven fails or the folder cannot be written.
pub(crate) fn fetch() -> Result<PathBuf> {
    let folder = folder();
    if folder.is_dir() {
        return Ok(folder);
    }
    println!("fetching Apache Kafka {KAFKA_VERSION} through Maven");
    fs::create_dir_all(folders::services()).context("target/services: cannot be created")?;
    let work = tempfile::tempdir_in(folders::services()).context("target/services: cannot be written")?;
    fs::write(work.path().join("pom.xml"), project()).context("pom.xml: cannot be written")?;
    let mut tries = 0;
    loop {
        tries += 1;
        let mut maven = Command::new("mvn");
        maven
            .args(["-q", "-B", "-Dstyle.color=never", "dependency:copy-dependencies", "-DoutputDirectory=libs"])
            .current_dir(work.path());
        match run::quiet(&mut maven, FETCH_LIMIT) {
            Ok(_) => break,
            Err(error) if tries == FETCH_TRIES => return Err(error.context("Kafka's jars cannot be fetched")),
            Err(_) => crate::interrupt::check()?,
        }
    }
    // Renamed only when complete; another run may have been faster, and its folder is as good.
    let moved = fs::rename(work.path().join("libs"), &folder);
    if !folder.is_dir() {
        moved.context("Kafka's jars cannot be moved into target/services")?;
    }
    Ok(folder)
}

fn folder() -> PathBuf {
    folders::services().join(format!("kafka-{KAFKA_VERSION}"))
}

fn project() -> String {
    format!(
        r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>outbox</groupId>
  <artifactId>kafka-for-tests</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"#
    )
}
