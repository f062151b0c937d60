//! A cluster in this process (librdkafka's mock), which real clients reach over TCP, and a reader of one topic.

use std::{
    collections::BTreeMap,
    sync::mpsc::{Sender, channel},
    thread,
    time::Duration,
};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

/// The topic of the tests.
pub(crate) const TOPIC: &str = "profiles";

/// How long a reader waits for a record that is there.
const PATIENCE: Duration = Duration::from_secs(20);

type Cluster = MockCluster<'static, DefaultProducerContext>;

type Order = Box<dyn FnOnce(&Cluster) + Send>;

/// A cluster of one broker.
pub(crate) struct Server {
    /// To the thread that has the cluster, which cannot change threads.
    orders: Sender<Order>,
    brokers: String,
    partitions: i32,
    reader: Option<Reader>,
}

/// A record as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) key: String,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) partition: i32,
}

/// Reads all partitions from their beginning, once.
pub(crate) struct Reader {
    topic: String,
    consumer: BaseConsumer,
    /// The next offset of each partition.
    next: Vec<i64>,
    found: Vec<Found>,
}

impl Server {
    /// A cluster with the topic.
    pub(crate) fn start(partitions: i32) -> Self {
        let (orders, received) = channel::<Order>();
        thread::spawn(move || {
            let cluster = MockCluster::new(1).unwrap();
            while let Ok(order) = received.recv() {
                order(&cluster);
            }
        });
        let mut server = Self {
            orders,
            brokers: String::new(),
            partitions,
            reader: None,
        };
        server.brokers = server.with(move |cluster| {
            cluster.create_topic(TOPIC, partitions, 1).unwrap();
            cluster.bootstrap_servers()
        });
        server
    }

    /// Does something with the cluster.
    pub(crate) fn with<T: Send + 'static>(
        &self,
        order: impl FnOnce(&Cluster) -> T + Send + 'static,
    ) -> T {
        let (done, result) = channel();
        let order = move |cluster: &Cluster| done.send(order(cluster)).unwrap();
        self.orders.send(Box::new(order)).unwrap();
        result.recv().unwrap()
    }

    /// The brokers' addresses.
    pub(crate) fn brokers(&self) -> &str {
        &self.brokers
    }

    /// The settings of a target that writes here.
    pub(crate) fn settings(&self) -> String {
        format!("brokers = [{:?}]\ntopic = \"{TOPIC}\"\n", self.brokers())
    }

    /// Takes no connections any more, and ends those there are.
    pub(crate) fn stop(&self) {
        self.with(|cluster| cluster.broker_down(1).unwrap());
    }

    /// Takes them again.
    pub(crate) fn resume(&self) {
        self.with(|cluster| cluster.broker_up(1).unwrap());
    }

    /// Answers so late from now on.
    pub(crate) fn delay(&self, delay: Duration) {
        self.with(move |cluster| cluster.broker_round_trip_time(1, delay).unwrap());
    }

    /// Answers requests to write with these errors, in turn.
    pub(crate) fn fail(&self, errors: &[RDKafkaRespErr]) {
        let errors = errors.to_vec();
        self.with(move |cluster| cluster.request_errors(RDKafkaApiKey::Produce, &errors));
    }

    /// Answers questions about the topic with this error.
    pub(crate) fn fail_topic(&self, error: RDKafkaRespErr) {
        self.with(move |cluster| cluster.topic_error(TOPIC, error).unwrap());
    }

    /// All records of the topic; those of one partition in their order.
    pub(crate) fn records(&mut self) -> Vec<Found> {
        let reader = self
            .reader
            .get_or_insert_with(|| Reader::new(&self.brokers, TOPIC, self.partitions));
        reader.read().to_vec()
    }

    /// The last record of each key: what compaction leaves, tombstones included.
    pub(crate) fn compacted(&mut self) -> BTreeMap<String, Found> {
        compact(&self.records())
    }
}

/// The last record of each key.
pub(crate) fn compact(records: &[Found]) -> BTreeMap<String, Found> {
    let records = records.iter().cloned();
    records.map(|found| (found.key.clone(), found)).collect()
}

impl Reader {
    pub(crate) fn new(brokers: &str, topic: &str, partitions: i32) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "reader")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "10")
            .set("reconnect.backoff.max.ms", "200")
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&list).unwrap();
        Self {
            topic: topic.to_owned(),
            consumer,
            next: vec![0; usize::try_from(partitions).unwrap()],
            found: Vec::new(),
        }
    }

    /// All records so far.
    pub(crate) fn read(&mut self) -> &[Found] {
        let mut missing = 0;
        for (partition, next) in (0..).zip(&self.next) {
            let (_, high) = self
                .consumer
                .fetch_watermarks(&self.topic, partition, PATIENCE)
                .unwrap();
            missing += high - next;
        }
        while missing > 0 {
            let message = self.consumer.poll(PATIENCE).expect("a record is there");
            // The broker was away meanwhile.
            let Ok(message) = message else { continue };
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let headers = message
                .headers()
                .into_iter()
                .flat_map(|headers| headers.iter());
            self.found.push(Found {
                key: text(message.key().unwrap()),
                value: message.payload().map(<[u8]>::to_vec),
                headers: headers
                    .map(|header| (header.key.to_owned(), text(header.value.unwrap())))
                    .collect(),
                partition: message.partition(),
            });
            self.next[usize::try_from(message.partition()).unwrap()] = message.offset() + 1;
            missing -= 1;
        }
        &self.found
    }
}
